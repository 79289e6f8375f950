"""The joint training of UNet and text encoder on encoded pictures."""

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextModel

from inpaintrt_export.demo.latents import LatentPool
from inpaintrt_export.demo.networks import build_scheduler
from inpaintrt_export.demo.training import mixed_precision

DROPPED_CAPTIONS = 0.12  # for classifier-free guidance
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


class DenoiserObjective:
    """Predict the noise; the error weighted by min-SNR (arXiv 2303.09556, for noise prediction)."""

    def __init__(
        self,
        denoiser: Denoiser,
        pool: LatentPool,
        tokens: Tensor,
        empty: Tensor,
        scaling: float,
        device: torch.device,
    ) -> None:
        """Take the pool, its captions' tokens [n, 77], the empty caption's [77], and the latents' scale."""
        self.modules = denoiser
        self.pool, self.tokens, self.empty, self.scaling, self.device = pool, tokens, empty, scaling, device
        self.signal = build_scheduler().alphas_cumprod

    def loss(self, count: int, generator: torch.Generator) -> Tensor:
        """Return the loss of samples drawn with the generator."""
        picks = torch.randint(len(self.pool.masked), (count,), generator=generator)
        clean = self.sample_latents(self.pool.picture[picks // self.pool.masks_per_picture], generator)
        masked = self.sample_latents(self.pool.masked[picks], generator)
        mask = self.pool.mask[picks].float()
        timestep = torch.randint(1000, (count,), generator=generator)
        noise = torch.randn(clean.shape, generator=generator)
        signal = self.signal[timestep][:, None, None, None]
        noisy = signal.sqrt() * clean + (1 - signal).sqrt() * noise
        predicted = self.predict(
            torch.cat([noisy, mask, masked], dim=1), timestep, self.draw_tokens(picks, generator)
        )
        weight = snr_weight(signal) * (mask + OUTSIDE_WEIGHT * (1 - mask))
        return ((predicted.cpu() - noise).square() * weight).mean()

    def sample_latents(self, moments: Tensor, generator: torch.Generator) -> Tensor:
        """Draw scaled latents from mean and standard deviation."""
        mean, deviation = moments.float().chunk(2, dim=1)
        return (mean + deviation * torch.randn(mean.shape, generator=generator)) * self.scaling

    def draw_tokens(self, picks: Tensor, generator: torch.Generator) -> Tensor:
        """Return the captions' tokens, some replaced by those of the empty caption."""
        dropped = torch.rand(len(picks), generator=generator) < DROPPED_CAPTIONS
        return torch.where(dropped[:, None], self.empty, self.tokens[picks])

    def predict(self, sample: Tensor, timestep: Tensor, tokens: Tensor) -> Tensor:
        """Run the denoiser on its device."""
        with mixed_precision(self.device):
            predicted = self.modules(sample.to(self.device), timestep.to(self.device), tokens.to(self.device))
        noise: Tensor = predicted.float()
        return noise


def snr_weight(signal: Tensor) -> Tensor:
    """Return min(SNR, limit) / SNR, where the signal-to-noise ratio follows from alpha-bar."""
    ratio = signal / (1 - signal)
    return ratio.clamp(max=SNR_LIMIT) / ratio
