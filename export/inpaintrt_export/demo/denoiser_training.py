"""The joint training of UNet and text encoder on encoded pictures."""

from dataclasses import dataclass

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextModel

from inpaintrt_export.demo.latents import LatentPool
from inpaintrt_export.demo.networks import build_scheduler
from inpaintrt_export.demo.training import mixed_precision

DROPPED_CAPTIONS = 0.12  # for classifier-free guidance
DROPPED_IN_CALIBRATION = 0.35  # guidance multiplies errors with and without caption alike
CALIBRATION = 3.0  # by which guidance is divided: 7.5 then does what 2.5 did
SNR_LIMIT = 5.0
OUTSIDE_WEIGHT = 0.3  # of the error where the picture is given anyway


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
    """Encoded pictures, tokens of their captions [n, 77] and of the empty one [77], the latents' scale."""

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
        clean = self.sample_latents(pool.picture[picks // pool.masks_per_picture], generator)
        masked = self.sample_latents(pool.masked[picks], generator)
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

    def sample_latents(self, moments: Tensor, generator: torch.Generator) -> Tensor:
        """Draw scaled latents from mean and standard deviation."""
        mean, deviation = moments.float().chunk(2, dim=1)
        return (mean + deviation * torch.randn(mean.shape, generator=generator)) * self.data.scaling

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


def snr_weight(signal: Tensor) -> Tensor:
    """Return min(SNR, limit) / SNR, where the signal-to-noise ratio follows from alpha-bar."""
    ratio = signal / (1 - signal)
    return ratio.clamp(max=SNR_LIMIT) / ratio
