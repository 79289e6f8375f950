"""What the denoising starts from: the first latents and the condition of each result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inpaintrt.errors import LatentsError
from inpaintrt.images import Prepared
from inpaintrt.noise import NoiseSource
from inpaintrt.request import Request
from inpaintrt.samplers import Init
from inpaintrt.vae import LatentDistribution

__all__ = ["Start", "make_start", "pictures_to_encode"]

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Start:
    """Where the denoising starts.

    Attributes:
        latents: `[results, channels, h, w]`, the first state of each result.
        conditions: `[results, 1 + channels, h, w]`: the mask and the latents of the masked picture.
    """

    latents: Floats
    conditions: Floats


def pictures_to_encode(request: Request, prepared: Sequence[Prepared]) -> list[Floats]:
    """What the VAE has to encode, `[1, 3, height, width]` each: pictures if they count, then masked ones."""
    masked = [picture.masked_image for picture in prepared]
    return [picture.image for picture in prepared] + masked if _starts_from_picture(request) else masked


def _starts_from_picture(request: Request) -> bool:
    return request.options["strength"] < 1 and request.options["latents"] is None


def make_start(
    request: Request,
    prepared: Sequence[Prepared],
    encoded: Sequence[LatentDistribution],
    init: Init,
    *,
    scale: float,
    source: NoiseSource,
) -> Start:
    """Draw the latents of the pictures and the first noise.

    The order of draws is that of diffusers: the picture's posterior if strength is below 1, the noise, the
    masked picture's posterior. What diffusers does not have, noise as masked content, is drawn last.

    Args:
        request: What is asked for.
        prepared: Its pictures.
        encoded: The distribution over latents of each of `pictures_to_encode`.
        init: What the first state holds.
        scale: The VAE's scaling factor.
        source: The request's noise.

    Raises:
        LatentsError: The caller's latents have another shape.
    """
    shape = encoded[0].mean.shape[1:]
    given = request.options["latents"]
    pictures: Floats | None = None
    if _starts_from_picture(request):
        pictures = _sample(encoded[: len(prepared)], request, scale, source)
    if given is None:
        noise = source.draw(len(request.prompts), shape)
    else:
        noise = _checked(given, (len(request.prompts), *shape))
    masked = _sample(encoded[-len(prepared) :], request, scale, source)
    mask = np.concatenate([prepared[picture].latent_mask for picture in request.picture_indices])
    latents = noise * np.float32(init.noise if given is None else init.latents)
    if pictures is not None:
        if request.options["fill"] == "noise":
            pictures = np.where(mask > 0, source.draw(len(pictures), shape), pictures)
        latents += pictures * np.float32(init.signal)
    return Start(latents, np.concatenate([mask, masked], axis=1))


def _sample(
    encoded: Sequence[LatentDistribution], request: Request, scale: float, source: NoiseSource
) -> Floats:
    """Scaled latents `[results, channels, h, w]` of pictures.

    diffusers draws once for each picture, so that in a list of seeds the first one decides for all results
    of a picture; a result of ours depends on its own seed alone.
    """
    distribution = LatentDistribution.joined(encoded)
    results = list(request.picture_indices)
    own_seeds = not isinstance(request.noise_seeds, int) and request.options["compat"] != "diffusers"
    if own_seeds:
        distribution = distribution.take(results)
    noise = source.draw(len(distribution.mean), distribution.mean.shape[1:])
    latents = distribution.sample(noise) * np.float32(scale)
    return latents if own_seeds else latents[results]


def _checked(latents: NDArray[np.floating], shape: tuple[int, ...]) -> Floats:
    if latents.shape != shape:
        raise LatentsError(
            "latents have a shape that does not fit the request",
            received=list(latents.shape),
            expected=f"[results, channels, height, width] = {list(shape)}",
            hint="height and width of latents are those of the picture over the VAE's factor, usually 8",
        )
    return latents.astype(np.float32)
