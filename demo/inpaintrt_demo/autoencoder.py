"""The autoencoder's training: crops of drawn images, some with a grey hole as masked images have."""

import numpy as np
import torch
from diffusers import AutoencoderKL
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional

from inpaintrt_demo.training import mixed_precision
from inpaintrt_demo.world import draw, random_scene

KL_WEIGHT = 5e-4  # per latent element, beside the mean absolute error of a pixel in -1 to 1
GRADIENT_WEIGHT = 0.5
TINT_WEIGHT = 1.0  # colors are a small part of the pixels' error, and half of what captions speak of
HOLE_SHARE = 0.15
ENCODE_BATCH = 16


def draw_pool(first_seed: int, count: int, size: int) -> NDArray[np.uint8]:
    """Draw scenes with consecutive seeds; [count, size, size, 3]."""
    return np.stack([np.asarray(draw(random_scene(first_seed + index), size)) for index in range(count)])


def to_tensor(images: NDArray[np.uint8]) -> Tensor:
    """Return images [n, height, width, 3] of bytes as [n, 3, height, width], values -1 to 1."""
    return torch.tensor(images).permute(0, 3, 1, 2).float() / 127.5 - 1


class VaeObjective:
    """Reconstruct crops; a little KL divergence keeps the latents near a normal distribution."""

    def __init__(self, vae: AutoencoderKL, pool: NDArray[np.uint8], crop: int, device: torch.device) -> None:
        self.modules = vae
        self.pool, self.crop, self.device = pool, crop, device

    def loss(self, count: int, generator: torch.Generator) -> Tensor:
        """Return the loss of crops drawn with the generator."""
        crops = self.crops(count, generator)
        with mixed_precision(self.device):
            posterior = self.modules.encode(crops).latent_dist
            noise = torch.randn(posterior.mean.shape, generator=generator).to(self.device)
            decoded = self.modules.decode(posterior.mean + posterior.std * noise).sample.float()
        divergence = posterior.kl().float().mean() / posterior.mean[0].numel()
        total: Tensor = reconstruction_loss(decoded, crops) + KL_WEIGHT * divergence
        return total

    def crops(self, count: int, generator: torch.Generator) -> Tensor:
        """Return random crops [count, 3, crop, crop], a share of them with a grey rectangle."""
        room = self.pool.shape[1] - self.crop + 1
        picks = torch.randint(len(self.pool), (count,), generator=generator).tolist()
        tops, lefts = torch.randint(room, (2, count), generator=generator).tolist()
        places = zip(picks, tops, lefts, strict=True)
        cut = np.stack(
            [self.pool[pick, top : top + self.crop, left : left + self.crop] for pick, top, left in places]
        )
        crops = to_tensor(cut)
        for crop in crops[: round(count * HOLE_SHARE)]:
            top, left, height, width = (torch.rand(4, generator=generator) * self.crop).long().tolist()
            crop[:, top : top + height, left : left + width] = 0
        return crops.to(self.device)


def reconstruction_loss(decoded: Tensor, wanted: Tensor) -> Tensor:
    """Return the mean absolute error of pixels, of their tints, and of differences between neighbours."""
    difference = decoded - wanted
    across = (difference[..., 1:] - difference[..., :-1]).abs().mean()
    down = (difference[..., 1:, :] - difference[..., :-1, :]).abs().mean()
    tint = (difference - difference.mean(dim=1, keepdim=True)).abs().mean()
    return functional.l1_loss(decoded, wanted) + TINT_WEIGHT * tint + GRADIENT_WEIGHT * (across + down)


def normalise_latents(vae: AutoencoderKL, images: Tensor) -> None:
    """Make the latents of the images [n, 3, height, width] centred and equally wide in every channel.

    The change goes into the 1 x 1 convolutions next to the latents, so that images decode as before;
    `scaling_factor` is set so that scaled latents have unit variance.
    """
    moments = torch.cat([encode_moments(vae, batch) for batch in torch.split(images, ENCODE_BATCH)]).float()
    mean, spread = moments[:, :4].mean(dim=(0, 2, 3)), moments[:, :4].std(dim=(0, 2, 3))
    overall = float(spread.square().mean().sqrt())
    ratio = overall / spread
    with torch.no_grad():
        before, after = vae.quant_conv, vae.post_quant_conv
        before.weight[:4] *= ratio[:, None, None, None]
        before.bias[:4] = (before.bias[:4] - mean) * ratio
        before.bias[4:] += 2 * ratio.log()
        after.bias += after.weight[:, :, 0, 0] @ mean
        after.weight /= ratio[None, :, None, None]
    vae.register_to_config(scaling_factor=round(1 / overall, 5))


def encode_moments(vae: AutoencoderKL, images: Tensor) -> Tensor:
    """Return mean and standard deviation of the latents, unscaled: [n, 8, height/8, width/8]."""
    device = next(vae.parameters()).device
    with torch.no_grad(), mixed_precision(device):
        posterior = vae.encode(images.to(device)).latent_dist
    return torch.cat([posterior.mean, posterior.std], dim=1).cpu()


@torch.no_grad()
def rebuild(vae: AutoencoderKL, image: Image.Image) -> Image.Image:
    """Return the image after the autoencoder."""
    latents = vae.encode(to_tensor(np.asarray(image)[None])).latent_dist.mode()
    decoded = vae.decode(latents).sample[0].permute(1, 2, 0).clamp(-1, 1)
    return Image.fromarray(((decoded + 1) * 127.5).round().to(torch.uint8).numpy())
