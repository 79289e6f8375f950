"""Between images and latents: encoder and decoder of a VAE."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inpaintrt.backends import Engine
from inpaintrt.bundle import TINY_VAE, VAE, Manifest
from inpaintrt.errors import ParameterError
from inpaintrt.options import VaeName

__all__ = ["LatentDistribution", "Vae", "Vaes"]

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class LatentDistribution:
    """The Gaussians over latents that the encoder gives for images.

    Attributes:
        mean: `[batch, channels, h, w]`.
        deviation: Standard deviation, of the same shape; None for a VAE that gives latents, from which
            nothing is drawn.
    """

    mean: Floats
    deviation: Floats | None

    @classmethod
    def from_parameters(cls, parameters: Floats) -> LatentDistribution:
        """From the encoder's output `[batch, 2 * channels, h, w]`: mean, then log-variance."""
        mean, log_variance = np.split(parameters.astype(np.float32, copy=False), 2, axis=1)
        # The limits are those of diffusers' DiagonalGaussianDistribution.
        return cls(mean, np.exp(0.5 * np.clip(log_variance, -30.0, 20.0)))

    @classmethod
    def joined(cls, parts: Sequence[LatentDistribution]) -> LatentDistribution:
        """The distributions of several batches of one VAE as one batch."""
        deviations = [part.deviation for part in parts if part.deviation is not None]
        mean = np.concatenate([part.mean for part in parts])
        return cls(mean, np.concatenate(deviations) if deviations else None)

    def take(self, indices: Sequence[int]) -> LatentDistribution:
        """The distributions of some images, in a new order."""
        chosen = list(indices)
        return LatentDistribution(
            self.mean[chosen], None if self.deviation is None else self.deviation[chosen]
        )

    def sample(self, draw: Callable[[int, Sequence[int]], Floats]) -> Floats:
        """Latents `[batch, channels, h, w]`.

        Args:
            draw: Draws unit noise for so many images of a shape, as `NoiseSource.draw` does.
        """
        if self.deviation is None:
            return self.mean
        count, *shape = self.mean.shape
        latents: Floats = self.mean + self.deviation * draw(count, shape)
        return latents


class Vae:
    """Encodes and decodes one image at a time, which keeps memory at that of one image.

    Args:
        encoder: Engine from `sample` to `latent_parameters`, or to `latents`.
        decoder: Engine from `latent_sample` to `sample`.
        latent_scale: The VAE's scaling factor.

    Attributes:
        has_posterior: Whether latents are drawn from a distribution; an `AutoencoderTiny` has none.
        latent_scale: The VAE's scaling factor.
    """

    def __init__(self, encoder: Engine, decoder: Engine, latent_scale: float) -> None:
        self._encoder = encoder
        self._decoder = decoder
        self.latent_scale = np.float32(latent_scale)
        self.has_posterior = "latent_parameters" in encoder.outputs

    def encode(self, images: Floats) -> LatentDistribution:
        """The distribution over unscaled latents of images `[batch, 3, height, width]` in [-1, 1].

        Raises:
            EngineError: The encoder failed.
        """
        dtype = self._encoder.inputs["sample"].dtype
        outputs = [self._encoder.run({"sample": image[None].astype(dtype, copy=False)}) for image in images]
        (name,) = self._encoder.outputs
        encoded = np.concatenate([output[name] for output in outputs]).astype(np.float32, copy=False)
        if self.has_posterior:
            return LatentDistribution.from_parameters(encoded)
        return LatentDistribution(encoded, None)

    def decode(self, latents: Floats) -> Floats:
        """The image `[3, height, width]` of scaled latents `[channels, h, w]`; about -1 to 1.

        Raises:
            EngineError: The decoder failed.
        """
        dtype = self._decoder.inputs["latent_sample"].dtype
        sample = (latents[None] / self.latent_scale).astype(dtype, copy=False)
        image: Floats = self._decoder.run({"latent_sample": sample})["sample"][0]
        return image.astype(np.float32, copy=False)


class Vaes:
    """The VAEs of a bundle: the checkpoint's own, and a tiny one where there is one.

    Args:
        manifest: The bundle's manifest.
        engines: The components by name.

    Attributes:
        by_name: All VAEs, by the values of the option `vae`.
        for_previews: The fastest one.
    """

    def __init__(self, manifest: Manifest, engines: Mapping[str, Engine]) -> None:
        self._bundle = manifest.name
        self.by_name: dict[VaeName, Vae] = {}
        encoder, decoder = (engines[name] for name in VAE)
        self.by_name["full"] = Vae(encoder, decoder, manifest.architecture.latent_scale)
        if manifest.tiny_vae is not None:
            encoder, decoder = (engines[name] for name in TINY_VAE)
            self.by_name["tiny"] = Vae(encoder, decoder, manifest.tiny_vae.latent_scale)
        self.for_previews = self.by_name.get("tiny", self.by_name["full"])

    def find(self, name: VaeName) -> Vae:
        """The VAE that a request asks for.

        Raises:
            ParameterError: The bundle does not have it.
        """
        if name not in self.by_name:
            raise ParameterError(
                f"the bundle {self._bundle!r} has no tiny VAE",
                received=f"vae={name!r}",
                expected=" or ".join(map(repr, self.by_name)),
                hint=f"leave vae out, or add one: `inpaintrt add-tiny-vae {self._bundle} madebyollin/taesd` "
                "(for XL madebyollin/taesdxl)",
                parameter="vae",
            )
        return self.by_name[name]
