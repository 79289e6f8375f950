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
from inpaintrt.vae import Vae

__all__ = ["Start", "make_start"]

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


def make_start(
    request: Request,
    prepared: Sequence[Prepared],
    init: Init,
    *,
    vae: Vae,
    source: NoiseSource,
    channels: int,
) -> Start:
    """Encode the pictures and draw the first noise.

    The order of draws is that of diffusers: the picture's posterior if strength is below 1, the noise, the
    masked picture's posterior. What diffusers does not have, noise as masked content, is drawn last.

    Raises:
        LatentsError: The caller's latents have another shape.
    """
    shape = (channels, *prepared[0].latent_mask.shape[2:])
    given = request.options["latents"]
    encoded: Floats | None = None
    if request.options["strength"] < 1 and given is None:
        encoded = _encode([picture.image for picture in prepared], request, vae, source)
    if given is None:
        noise = source.draw(len(request.prompts), shape)
    else:
        noise = _checked(given, (len(request.prompts), *shape))
    masked = _encode([picture.masked_image for picture in prepared], request, vae, source)
    mask = np.concatenate([prepared[picture].latent_mask for picture in request.picture_indices])
    latents = noise * np.float32(init.noise if given is None else init.latents)
    if encoded is not None:
        if request.options["fill"] == "noise":
            encoded = np.where(mask > 0, source.draw(len(encoded), shape), encoded)
        latents += encoded * np.float32(init.signal)
    return Start(latents, np.concatenate([mask, masked], axis=1))


def _encode(images: Sequence[Floats], request: Request, vae: Vae, source: NoiseSource) -> Floats:
    """Scaled latents `[results, channels, h, w]` of pictures.

    diffusers draws once for each picture, so that in a list of seeds the first one decides for all results
    of a picture; a result of ours depends on its own seed alone.
    """
    distribution = vae.encode(np.concatenate(images))
    results = list(request.picture_indices)
    own_seeds = not isinstance(request.noise_seeds, int) and request.options["compat"] != "diffusers"
    if own_seeds:
        distribution = distribution.take(results)
    noise = source.draw(len(distribution.mean), distribution.mean.shape[1:])
    latents = vae.scaled(distribution.sample(noise))
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
