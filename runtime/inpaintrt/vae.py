"""Between images and latents: the VAE's two engines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inpaintrt.backends import Engine

__all__ = ["LatentDistribution", "Vae"]


@dataclass(frozen=True)
class LatentDistribution:
    """The Gaussians over latents that the encoder gives for images.

    Attributes:
        mean: `[batch, channels, h, w]`.
        deviation: Standard deviation, of the same shape.
    """

    mean: NDArray[np.float32]
    deviation: NDArray[np.float32]

    @classmethod
    def from_parameters(cls, parameters: NDArray[np.float32]) -> LatentDistribution:
        """From the encoder's output `[batch, 2 * channels, h, w]`: mean, then log-variance."""
        mean, log_variance = np.split(parameters.astype(np.float32, copy=False), 2, axis=1)
        # The limits are those of diffusers' DiagonalGaussianDistribution.
        return cls(mean, np.exp(0.5 * np.clip(log_variance, -30.0, 20.0)))

    @classmethod
    def joined(cls, parts: Sequence[LatentDistribution]) -> LatentDistribution:
        """The distributions of several batches as one batch."""
        return cls(
            np.concatenate([part.mean for part in parts]), np.concatenate([part.deviation for part in parts])
        )

    def take(self, indices: Sequence[int]) -> LatentDistribution:
        """The distributions of some images, in a new order."""
        return LatentDistribution(self.mean[list(indices)], self.deviation[list(indices)])

    def sample(self, noise: NDArray[np.float32]) -> NDArray[np.float32]:
        """The latents `[batch, channels, h, w]` for unit noise of the same shape."""
        latents: NDArray[np.float32] = self.mean + self.deviation * noise
        return latents


class Vae:
    """Encodes and decodes one image at a time, which keeps memory at that of one image.

    Args:
        encoder: Engine from `sample` to `latent_parameters`.
        decoder: Engine from `latent_sample` to `sample`.
        latent_scale: The VAE's scaling factor.
    """

    def __init__(self, encoder: Engine, decoder: Engine, latent_scale: float) -> None:
        self._encoder = encoder
        self._decoder = decoder
        self._scale = np.float32(latent_scale)

    def encode(self, images: NDArray[np.float32]) -> LatentDistribution:
        """The distribution over unscaled latents of images `[batch, 3, height, width]` in [-1, 1]."""
        dtype = self._encoder.inputs["sample"].dtype
        outputs = [self._encoder.run({"sample": image[None].astype(dtype, copy=False)}) for image in images]
        parameters = np.concatenate([output["latent_parameters"] for output in outputs])
        return LatentDistribution.from_parameters(parameters)

    def decode(self, latents: NDArray[np.float32]) -> NDArray[np.float32]:
        """The image `[3, height, width]` of scaled latents `[channels, h, w]`; about -1 to 1."""
        dtype = self._decoder.inputs["latent_sample"].dtype
        sample = (latents[None] / self._scale).astype(dtype, copy=False)
        image: NDArray[np.float32] = self._decoder.run({"latent_sample": sample})["sample"][0]
        return image.astype(np.float32, copy=False)
