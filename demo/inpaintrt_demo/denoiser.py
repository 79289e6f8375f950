"""The joint training of UNet and text encoder, on latents that were encoded once."""

import logging
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextModel

from inpaintrt_demo.autoencoder import ENCODE_BATCH, encode_moments, to_tensor
from inpaintrt_demo.checkpoint import build_scheduler
from inpaintrt_demo.masks import random_masked
from inpaintrt_demo.training import mixed_precision
from inpaintrt_demo.world import draw, random_scene

logger = logging.getLogger(__name__)
DROPPED_CAPTIONS = 0.12  # for classifier-free guidance
DROPPED_IN_CALIBRATION = 0.35  # guidance multiplies errors with and without caption alike
CALIBRATION = 3.0  # by which guidance is divided: 7.5 then does what 2.5 did
SNR_LIMIT = 5.0
OUTSIDE_WEIGHT = 0.3  # of the error where the image is given anyway


@dataclass(frozen=True)
class LatentPool:
    """Encoded images; each has several masks.

    `image` and `masked` are mean and standard deviation, [n, 8, height/8, width/8] float16. `masked`,
    `mask` (0 or 1) and `captions` have several entries for each image in turn.
    """

    image: Tensor
    masked: Tensor
    mask: Tensor
    captions: list[str]

    @property
    def masks_per_image(self) -> int:
        """How many masks each image has."""
        return len(self.masked) // len(self.image)

    def save(self, file: Path) -> None:
        """Write the pool."""
        torch.save(asdict(self), file)

    @classmethod
    def load(cls, file: Path) -> "LatentPool":
        """Read a pool."""
        return cls(**torch.load(file, weights_only=True))


def encode_pool(vae: AutoencoderKL, first_seed: int, scenes: int, masks: int, size: int) -> LatentPool:
    """Draw scenes with consecutive seeds, mask each a few times, and encode all."""
    image, masked, mask = [], [], []
    captions: list[str] = []
    for done, seeds in enumerate(batches(first_seed, scenes)):
        drawn = torch.cat([masked_images(seed, masks, size, captions) for seed in seeds])
        plain, holes = drawn[:, :3], drawn[:, 3:4]
        image.append(encode_moments(vae, plain[::masks]).half())
        masked.append(encode_moments(vae, plain * (holes < 0.5)).half())
        mask.append(holes[..., ::8, ::8].to(torch.uint8))
        if done % 100 == 0:
            logger.info("latents: %d of %d scenes", done * ENCODE_BATCH, scenes)
    return LatentPool(torch.cat(image), torch.cat(masked), torch.cat(mask), captions)


def batches(first_seed: int, scenes: int) -> Iterator[range]:
    """Yield the seeds in groups."""
    for index in range(math.ceil(scenes / ENCODE_BATCH)):
        first = first_seed + index * ENCODE_BATCH
        yield range(first, min(first + ENCODE_BATCH, first_seed + scenes))


def masked_images(seed: int, masks: int, size: int, captions: list[str]) -> Tensor:
    """Return a scene once per mask, the mask as fourth channel: [masks, 4, size, size]; extend captions."""
    rng = np.random.default_rng((seed, 1))
    scene = random_scene(seed)
    image = to_tensor(np.asarray(draw(scene, size))[None])
    drawn = [random_masked(rng, scene, size) for _ in range(masks)]
    captions.extend(masked.caption for masked in drawn)
    holes = torch.from_numpy(np.stack([masked.mask for masked in drawn]))[:, None].float()
    return torch.cat([image.expand(masks, -1, -1, -1), holes], dim=1)


class Denoiser(nn.Module):
    """UNet and text encoder as one module, so that they share optimizer and averaged weights."""

    def __init__(self, unet: UNet2DConditionModel, text_encoder: CLIPTextModel) -> None:
        super().__init__()
        self.unet, self.text_encoder = unet, text_encoder

    def forward(self, sample: Tensor, timestep: Tensor, tokens: Tensor) -> Tensor:
        """Return the predicted noise [n, 4, height/8, width/8] for samples [n, 9, ...] and tokens [n, 77]."""
        context = self.text_encoder(tokens).last_hidden_state
        predicted: Tensor = self.unet(sample, timestep, context, return_dict=False)[0]
        return predicted


@dataclass(frozen=True)
class Captioned:
    """Encoded images, tokens of their captions [n, 77] and of the empty one [77], the latents' scale."""

    pool: LatentPool
    tokens: Tensor
    empty: Tensor
    scaling: float


class DenoiserObjective:
    """Predict the noise; the error weighted by min-SNR (arXiv 2303.09556, for noise prediction).

    With a teacher, predict what it predicts instead, the caption's effect divided by `CALIBRATION`: a network
    this small overshoots at the guidance that people use with Stable Diffusion. With u and c the teacher's
    predictions without and with the caption, the copy learns u and u + (c - u) / CALIBRATION, so that its
    guidance g is the teacher's g / CALIBRATION.
    """

    def __init__(
        self, denoiser: Denoiser, data: Captioned, device: torch.device, teacher: Denoiser | None = None
    ) -> None:
        self.modules = denoiser
        self.data, self.device, self.teacher = data, device, teacher
        self.dropped = DROPPED_CAPTIONS if teacher is None else DROPPED_IN_CALIBRATION
        self.signal = build_scheduler().alphas_cumprod

    def loss(self, count: int, generator: torch.Generator) -> Tensor:
        """Return the loss of samples drawn with the generator."""
        pool = self.data.pool
        picks = torch.randint(len(pool.masked), (count,), generator=generator)
        scaling = self.data.scaling
        clean = sample_latents(pool.image[picks // pool.masks_per_image], scaling, generator)
        masked = sample_latents(pool.masked[picks], scaling, generator)
        mask = pool.mask[picks].float()
        timestep = torch.randint(1000, (count,), generator=generator)
        noise = torch.randn(clean.shape, generator=generator)
        signal = self.signal[timestep][:, None, None, None]
        noisy = signal.sqrt() * clean + (1 - signal).sqrt() * noise
        inputs = torch.cat([noisy, mask, masked], dim=1), timestep, self.draw_tokens(picks, generator)
        wanted = noise if self.teacher is None else self.calibrated(self.teacher, *inputs)
        error = self.run(self.modules, *inputs) - wanted
        weight = snr_weight(signal) * (mask + OUTSIDE_WEIGHT * (1 - mask))
        return (error.square() * weight).mean()

    def draw_tokens(self, picks: Tensor, generator: torch.Generator) -> Tensor:
        """Return the captions' tokens, some replaced by those of the empty caption."""
        dropped = torch.rand(len(picks), generator=generator) < self.dropped
        return torch.where(dropped[:, None], self.data.empty, self.data.tokens[picks])

    @torch.no_grad()
    def calibrated(self, teacher: Denoiser, sample: Tensor, timestep: Tensor, tokens: Tensor) -> Tensor:
        """Return the teacher's prediction, the caption's effect reduced."""
        without = self.run(teacher, sample, timestep, self.data.empty.expand_as(tokens))
        return without + (self.run(teacher, sample, timestep, tokens) - without) / CALIBRATION

    def run(self, denoiser: Denoiser, sample: Tensor, timestep: Tensor, tokens: Tensor) -> Tensor:
        """Return the predicted noise, float32 on the CPU, for inputs on the CPU."""
        with mixed_precision(self.device):
            predicted: Tensor = denoiser(
                sample.to(self.device), timestep.to(self.device), tokens.to(self.device)
            )
        return predicted.float().cpu()


def sample_latents(moments: Tensor, scaling: float, generator: torch.Generator) -> Tensor:
    """Draw scaled latents from mean and standard deviation."""
    mean, deviation = moments.float().chunk(2, dim=1)
    return (mean + deviation * torch.randn(mean.shape, generator=generator)) * scaling


def snr_weight(signal: Tensor) -> Tensor:
    """Return min(SNR, limit) / SNR, where the signal-to-noise ratio follows from alpha-bar."""
    ratio = signal / (1 - signal)
    return ratio.clamp(max=SNR_LIMIT) / ratio
