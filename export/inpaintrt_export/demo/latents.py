"""What the denoiser trains on: latents of pictures and of masked pictures, encoded once."""

import logging
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor

from inpaintrt_export.demo.masks import random_masked
from inpaintrt_export.demo.training import mixed_precision
from inpaintrt_export.demo.vae_training import to_tensor
from inpaintrt_export.demo.world import draw, random_scene

logger = logging.getLogger(__name__)
ENCODE_BATCH = 16


@dataclass(frozen=True)
class LatentPool:
    """Encoded pictures; each has several masks.

    `picture` and `masked` are mean and standard deviation, [n, 8, height/8, width/8] float16. `masked`,
    `mask` (0 or 1) and `captions` have several entries for each picture in turn.
    """

    picture: Tensor
    masked: Tensor
    mask: Tensor
    captions: list[str]

    @property
    def masks_per_picture(self) -> int:
        """How many masks each picture has."""
        return len(self.masked) // len(self.picture)

    def save(self, file: Path) -> None:
        """Write the pool."""
        torch.save(asdict(self), file)

    @classmethod
    def load(cls, file: Path) -> "LatentPool":
        """Read a pool."""
        return cls(**torch.load(file, weights_only=True))


def normalise_latents(vae: AutoencoderKL, pictures: Tensor) -> None:
    """Make the latents of the pictures [n, 3, height, width] centred and equally wide in every channel.

    The change goes into the 1 x 1 convolutions next to the latents, so that pictures decode as before;
    `scaling_factor` is set so that scaled latents have unit variance.
    """
    moments = torch.cat([encode_moments(vae, batch) for batch in torch.split(pictures, ENCODE_BATCH)]).float()
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


def encode_moments(vae: AutoencoderKL, pictures: Tensor) -> Tensor:
    """Return mean and standard deviation of the latents, unscaled: [n, 8, height/8, width/8]."""
    device = next(vae.parameters()).device
    with torch.no_grad(), mixed_precision(device):
        posterior = vae.encode(pictures.to(device)).latent_dist
    return torch.cat([posterior.mean, posterior.std], dim=1).cpu()


def encode_pool(vae: AutoencoderKL, first_seed: int, scenes: int, masks: int, size: int) -> LatentPool:
    """Draw scenes with consecutive seeds, mask each a few times, and encode all."""
    picture, masked, mask = [], [], []
    captions: list[str] = []
    for done, seeds in enumerate(batches(first_seed, scenes)):
        drawn = torch.cat([masked_pictures(seed, masks, size, captions) for seed in seeds])
        plain, holes = drawn[:, :3], drawn[:, 3:4]
        picture.append(encode_moments(vae, plain[::masks]).half())
        masked.append(encode_moments(vae, plain * (holes < 0.5)).half())
        mask.append(holes[..., ::8, ::8].to(torch.uint8))
        if done % 100 == 0:
            logger.info("latents: %d of %d scenes", done * ENCODE_BATCH, scenes)
    return LatentPool(torch.cat(picture), torch.cat(masked), torch.cat(mask), captions)


def batches(first_seed: int, scenes: int) -> Iterator[range]:
    """Yield the seeds in groups."""
    for index in range(math.ceil(scenes / ENCODE_BATCH)):
        first = first_seed + index * ENCODE_BATCH
        yield range(first, min(first + ENCODE_BATCH, first_seed + scenes))


def masked_pictures(seed: int, masks: int, size: int, captions: list[str]) -> Tensor:
    """Return a scene once per mask, the mask as fourth channel: [masks, 4, size, size]; extend captions."""
    rng = np.random.default_rng((seed, 1))
    scene = random_scene(seed)
    picture = to_tensor(np.asarray(draw(scene, size))[None])
    drawn = [random_masked(rng, scene, size) for _ in range(masks)]
    captions.extend(masked.caption for masked in drawn)
    holes = torch.from_numpy(np.stack([masked.mask for masked in drawn]))[:, None].float()
    return torch.cat([picture.expand(masks, -1, -1, -1), holes], dim=1)
