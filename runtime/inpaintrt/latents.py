"""What the denoising starts from: latents of images, and the first noise, drawn in diffusers' order."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from inpaintrt.bundle import Architecture
from inpaintrt.errors import LatentsError
from inpaintrt.families import Start
from inpaintrt.images import Prepared
from inpaintrt.noise import NoiseSource
from inpaintrt.request import Request
from inpaintrt.samplers import Init
from inpaintrt.vae import LatentDistribution, Vae

__all__ = ["images_to_encode", "make_start"]

Floats = NDArray[np.float32]


def images_to_encode(
    architecture: Architecture, request: Request, prepared: Sequence[Prepared]
) -> list[Floats]:
    """What the VAE has to encode, `[1, 3, height, width]` each: images if they count, then masked ones."""
    unencoded = [each.image for each in prepared if each.latents is None]
    images = unencoded if _uses_image(architecture, request) else []
    masked = [each.masked_image for each in prepared] if architecture.condition_channels else []
    return images + masked


def _uses_image(architecture: Architecture, request: Request) -> bool:
    """Whether anything is made of the image's own latents, so that they are drawn."""
    if request.task == "text-to-image" or _begins_noisy(request):
        return False
    if request.task == "image-to-image" or not architecture.condition_channels:
        return True
    starts_from_it = request.strength < 1 and request.latents is None
    continues = request.options["denoising_start"] is not None
    return starts_from_it or continues or request.options["mask_mode"] == "soft"


def _begins_noisy(request: Request) -> bool:
    """Whether the caller's latents are the first state itself, as in diffusers' image-to-image of SDXL."""
    given = request.task == "image-to-image" and request.latents is not None
    return given and request.options["compat"] == "diffusers"


def make_start(
    architecture: Architecture,
    request: Request,
    prepared: Sequence[Prepared],
    vae: Vae,
    encoded: Sequence[LatentDistribution],
    init: Init,
    source: NoiseSource,
) -> Start:
    """Draw the latents of the images and the first noise.

    The order of draws is that of diffusers: the image's posterior if it counts, the noise, and for inpainting
    the masked image's posterior, which is drawn even where the UNet does not see it. A VAE without posteriors
    draws neither. What diffusers does not have, noise as masked content, is drawn last.

    Args:
        architecture: The bundle's.
        request: What is asked for.
        prepared: Its images.
        vae: The VAE that has encoded them.
        encoded: The distribution over latents of each of `images_to_encode`.
        init: What the first state holds.
        source: The request's noise.

    Raises:
        LatentsError: The caller's latents have another shape.
    """
    shape = (architecture.latent_channels, *prepared[0].latent_mask.shape[2:])
    uses_image = _uses_image(architecture, request)
    scale = vae.latent_scale
    image = _image_latents(request, prepared, encoded, scale, source) if uses_image else None
    noise = _first_noise(request, shape, source)
    masked = _masked_latents(architecture, request, prepared, vae, encoded, source)
    mask = _of_results(request, [each.latent_mask for each in prepared])
    soft = [each.soft_latent_mask for each in prepared if each.soft_latent_mask is not None]
    latents = noise * np.float32(_noise_factor(request, init))
    adds_image = request.latents is None or request.task == "image-to-image"
    if image is not None and adds_image and init.signal:
        if request.options["fill"] == "noise":
            image = np.where(mask > 0, source.draw(len(image), shape), image)
        latents += image * np.float32(init.signal)
    return Start(
        latents,
        noise,
        image,
        None if masked is None else masked * scale,
        mask,
        _of_results(request, soft) if soft else None,
    )


def _noise_factor(request: Request, init: Init) -> float:
    """How much of the first noise, or of the caller's latents, the first state holds."""
    if _begins_noisy(request):
        return init.noisy
    given = request.latents is not None and request.task != "image-to-image"
    return init.latents if given else init.noise


def _image_latents(
    request: Request,
    prepared: Sequence[Prepared],
    encoded: Sequence[LatentDistribution],
    scale: np.float32,
    source: NoiseSource,
) -> Floats:
    """Scaled latents `[results, channels, h, w]` of the images: those that were handed in, or a sample."""
    given = [each.latents for each in prepared if each.latents is not None]
    return (
        _of_results(request, given) if given else _sample(encoded[: len(prepared)], request, source) * scale
    )


def _first_noise(request: Request, shape: tuple[int, ...], source: NoiseSource) -> Floats:
    """The caller's latents, or fresh noise; diffusers' image-to-image draws none to go on with an image."""
    results = len(request.prompts)
    if request.task == "image-to-image" and request.options["denoising_start"] is not None:
        return np.zeros((results, *shape), np.float32)
    if request.latents is None:
        return source.draw(results, shape)
    return _checked(request.latents, (results, *shape))


def _of_results(request: Request, of_images: Sequence[Floats]) -> Floats:
    return np.concatenate([of_images[index] for index in request.image_indices])


def _masked_latents(
    architecture: Architecture,
    request: Request,
    prepared: Sequence[Prepared],
    vae: Vae,
    encoded: Sequence[LatentDistribution],
    source: NoiseSource,
) -> Floats | None:
    """Unscaled latents of the masked images, of which only inpainting draws a sample."""
    conditioned = architecture.condition_channels > 0
    if request.task == "inpainting" and conditioned:
        return _sample(encoded[-len(prepared) :], request, source)
    if request.task == "inpainting" and prepared[0].latents is None and vae.has_posterior:
        shape = (architecture.latent_channels, *prepared[0].latent_mask.shape[2:])
        source.draw(len(request.image_indices) if _own_seeds(request) else len(prepared), shape)
    if not conditioned:
        return None
    return LatentDistribution.joined(encoded[-len(prepared) :]).take(request.image_indices).mean


def _own_seeds(request: Request) -> bool:
    """Whether each result draws the sample of its image itself.

    diffusers' inpainting draws once for each image, so that in a list of seeds the first one decides for all
    results of an image; a result of ours depends on its own seed alone. Its image-to-image does as we do.
    """
    several = not isinstance(request.noise_seeds, int)
    return several and (request.options["compat"] != "diffusers" or request.task == "image-to-image")


def _sample(encoded: Sequence[LatentDistribution], request: Request, source: NoiseSource) -> Floats:
    """Unscaled latents `[results, channels, h, w]` of images."""
    distribution = LatentDistribution.joined(encoded)
    results = list(request.image_indices)
    own_seeds = _own_seeds(request)
    if own_seeds:
        distribution = distribution.take(results)
    latents = distribution.sample(source.draw)
    return latents if own_seeds else latents[results]


def _checked(latents: NDArray[np.floating], shape: tuple[int, ...]) -> Floats:
    if latents.shape != shape:
        raise LatentsError(
            "latents have a shape that does not fit the request",
            received=list(latents.shape),
            expected=f"[results, channels, height, width] = {list(shape)}",
            hint="height and width of latents are those of the image over the VAE's factor, usually 8",
        )
    return latents.astype(np.float32)
