"""What a caller asks for: every option with its default, checked before any engine runs."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypedDict

import numpy as np
from numpy.typing import NDArray

from inpaintrt.errors import LatentsError, MaskError, ParameterError, PromptError
from inpaintrt.guidance import Guidance, NegativeMode
from inpaintrt.images import ImageOptions, ImageSource

__all__ = ["Options", "OutputType", "Request", "Task", "make_request"]

Task = Literal["inpainting", "image-to-image", "text-to-image"]
OutputType = Literal["pil", "np", "latent"]
_OUTPUT_TYPES = ("pil", "np", "latent")


class Options(TypedDict, total=False):
    """Every option of a request. Names and meanings are diffusers' where diffusers has them.

    Attributes:
        negative_prompt: What not to paint; a text for all pictures, or one for each prompt.
        num_inference_steps: Steps of the sampler, from 1.
        guidance_scale: How strongly the prompt is followed; at 1 or below there is no guidance.
        strength: From 0 to 1: how much of the picture under the mask is forgotten.
        num_images_per_prompt: Pictures for each prompt.
        eta: Noise of DDIM and TCD, from 0 to 1.
        seed: One seed for the whole request, or one for each picture; None chooses one and reports it.
        scheduler: A sampler's name; None takes the checkpoint's own.
        padding_mask_crop: Run only the masked region and this many pixels around it.
        height: Height to run at, in pixels; None takes the picture's own.
        width: Width to run at, in pixels; None takes the picture's own.
        clip_skip: Skip this many of the last layers of the text encoder.
        latents: First latents `[pictures, channels, h, w]`, unit Gaussian, instead of seeded ones.
        output_type: "pil" for pictures, "np" for float32 `[pictures, height, width, 3]` in [0, 1], "latent"
            for scaled latents `[pictures, channels, h, w]`.
        compat: "diffusers" follows diffusers in size, cropping and paste-back too.
        negative_mode: "replace" or "symmetric", see `inpaintrt.guidance.Guidance`.
        guidance_interval: First and last part of the run, from 0 to 1, in which guidance acts.
        long_prompts: "truncate" cuts prompts at the encoder's window, "windows" joins several windows.
        mask_blur: Softens the mask's edge where the result is pasted back; a Gaussian's sigma in pixels.
        mask_grow: Grows the mask by this many pixels, or shrinks it.
        mask_invert: Repaint what is black instead of what is white.
        match_colours: Shift the result's colours so that they meet the picture's at the mask's edge.
        fill: What the picture holds under the mask when strength is below 1: "original", "grey", "blur"
            or "noise".
        margins: Pixels to paint beyond the picture's left, top, right and bottom edge.
        mask_mode: "hard" repaints where the mask is at least half white; "soft" takes a grey value for how
            much may change (differential diffusion).
        guidance_rescale: From 0 to 1: how far the contrast that guidance adds is taken back
            (arXiv:2305.08891, section 3.4).
    """

    negative_prompt: str | Sequence[str] | None
    num_inference_steps: int
    guidance_scale: float
    strength: float
    num_images_per_prompt: int
    eta: float
    seed: int | Sequence[int] | None
    scheduler: str | None
    padding_mask_crop: int | None
    height: int | None
    width: int | None
    clip_skip: int | None
    latents: NDArray[np.floating] | None
    output_type: OutputType
    compat: Literal["diffusers"] | None
    negative_mode: NegativeMode
    guidance_interval: tuple[float, float]
    long_prompts: Literal["truncate", "windows"]
    mask_blur: float
    mask_grow: int
    mask_invert: bool
    match_colours: bool
    fill: Literal["original", "grey", "noise", "blur"]
    margins: tuple[int, int, int, int]
    mask_mode: Literal["hard", "soft"]
    guidance_rescale: float


@dataclass(frozen=True)
class Request:
    """A checked request: no field is missing and lists have their lengths.

    Attributes:
        prompts: One for each picture to make, as are `negatives`, `image_indices` and `seeds`.
        negatives: Negative prompts; None where the caller gave none.
        images: The pictures that were handed in.
        masks: As many as `images`.
        image_indices: Which of `images` each result starts from.
        noise_seeds: One seed for all pictures, or one for each.
        seeds: The seed that each result reports.
        guidance: How the prompts' predictions combine.
        image_options: How pictures and masks are prepared.
        options: Everything, as the caller gave it, defaults filled in.
    """

    prompts: tuple[str, ...]
    negatives: tuple[str, ...] | None
    images: tuple[ImageSource, ...]
    masks: tuple[ImageSource, ...]
    image_indices: tuple[int, ...]
    noise_seeds: int | tuple[int, ...]
    seeds: tuple[int, ...]
    guidance: Guidance
    image_options: ImageOptions
    options: Options = field(repr=False)

    @property
    def task(self) -> Task:
        """What is asked for, by what was handed in."""
        if not self.images:
            return "text-to-image"
        return "inpainting" if self.masks else "image-to-image"


_DEFAULTS: Options = {
    "negative_prompt": None,
    "num_inference_steps": 50,
    "guidance_scale": 7.5,
    "strength": 1.0,
    "num_images_per_prompt": 1,
    "eta": 0.0,
    "seed": None,
    "scheduler": None,
    "padding_mask_crop": None,
    "height": None,
    "width": None,
    "clip_skip": None,
    "latents": None,
    "output_type": "pil",
    "compat": None,
    "negative_mode": "replace",
    "guidance_interval": (0.0, 1.0),
    "long_prompts": "truncate",
    "mask_blur": 0.0,
    "mask_grow": 0,
    "mask_invert": False,
    "match_colours": True,
    "fill": "original",
    "margins": (0, 0, 0, 0),
    "mask_mode": "hard",
    "guidance_rescale": 0.0,
}


def make_request(
    prompt: str | Sequence[str],
    image: ImageSource | Sequence[ImageSource],
    mask_image: ImageSource | Sequence[ImageSource],
    options: Options,
) -> Request:
    """Fill in defaults and check everything that can be checked without looking at pictures.

    Raises:
        ParameterError: An option is unknown or out of its range.
        PromptError: Prompts, negative prompts and pictures do not match in number.
        LatentsError: The latents are not finite.
    """
    unknown = sorted(set(options) - set(_DEFAULTS))
    if unknown:
        raise ParameterError(
            "there is no such option", received=", ".join(unknown), expected=", ".join(sorted(_DEFAULTS))
        )
    settings: Options = {**_DEFAULTS, **options}
    _check_choices(settings)
    _check_latents(settings["latents"])
    images, masks = _pair_pictures(image, mask_image)
    prompts = _match_prompts(prompt, len(images))
    negatives = _match_negatives(settings["negative_prompt"], len(prompts))
    count = _positive("num_images_per_prompt", settings["num_images_per_prompt"])
    total = len(prompts) * count
    noise_seeds, seeds = _resolve_seeds(settings["seed"], total)
    return Request(
        prompts=tuple(text for text in prompts for _ in range(count)),
        negatives=None if negatives is None else tuple(text for text in negatives for _ in range(count)),
        images=images,
        masks=masks,
        image_indices=_image_indices(total, count, len(images), tiled=settings["compat"] == "diffusers"),
        noise_seeds=noise_seeds,
        seeds=seeds,
        guidance=Guidance(
            _number("guidance_scale", settings["guidance_scale"]),
            settings["negative_mode"],
            settings["guidance_interval"],
        ),
        image_options=_image_options(settings),
        options=settings,
    )


def _image_options(settings: Options) -> ImageOptions:
    return ImageOptions(
        height=settings["height"],
        width=settings["width"],
        padding_mask_crop=settings["padding_mask_crop"],
        mask_blur=settings["mask_blur"],
        mask_grow=settings["mask_grow"],
        mask_invert=settings["mask_invert"],
        match_colours=settings["match_colours"],
        fill=settings["fill"],
        margins=settings["margins"],
        compat=settings["compat"],
    )


def _check_choices(settings: Options) -> None:
    if settings["output_type"] not in _OUTPUT_TYPES:
        raise ParameterError(
            "output_type is unknown",
            received=repr(settings["output_type"]),
            expected=", ".join(_OUTPUT_TYPES),
        )
    clip_skip = settings["clip_skip"]
    if clip_skip is not None and (not isinstance(clip_skip, int) or clip_skip < 0):
        raise ParameterError(
            "clip_skip is not a number of layers",
            received=repr(clip_skip),
            expected="an integer from 0, or None",
        )


def _check_latents(latents: object) -> None:
    if latents is None:
        return
    if not isinstance(latents, np.ndarray) or not np.issubdtype(latents.dtype, np.floating):
        raise LatentsError(
            "latents are not an array of floats",
            received=getattr(latents, "dtype", type(latents).__name__),
            expected="a NumPy array of float32",
        )
    if not np.isfinite(latents).all():
        raise LatentsError(
            "latents are not finite",
            received=f"{np.count_nonzero(~np.isfinite(latents))} values that are NaN or infinite",
            expected="finite values, usually unit Gaussian noise",
        )


def _positive(name: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise ParameterError(
            f"{name} is not a positive integer",
            received=repr(value),
            expected="an integer from 1",
            parameter=name,
        )
    return int(value)


def _number(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise ParameterError(
            f"{name} is not a number", received=repr(value), expected="a number", parameter=name
        )
    return float(value)


def _pair_pictures(
    image: ImageSource | Sequence[ImageSource], mask: ImageSource | Sequence[ImageSource]
) -> tuple[tuple[ImageSource, ...], tuple[ImageSource, ...]]:
    images, masks = _as_tuple(image), _as_tuple(mask)
    pairs = max(len(images), len(masks))
    if not images or not masks or {len(images), len(masks)} - {1, pairs}:
        raise MaskError(
            "pictures and masks do not match in number",
            received=f"{len(images)} pictures and {len(masks)} masks",
            expected="one of each, a mask for each picture, or one for all",
        )
    return images * (pairs // len(images)), masks * (pairs // len(masks))


def _as_tuple(value: object) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, list | tuple) else (value,)


def _match_prompts(prompt: str | Sequence[str], pictures: int) -> tuple[str, ...]:
    prompts = _as_tuple(prompt)
    if not prompts or (pictures > 1 and len(prompts) not in (1, pictures)):
        raise PromptError(
            "prompts and pictures do not match in number",
            received=f"{len(prompts)} prompts for {pictures} pictures",
            expected="a prompt for each picture, or one for all",
        )
    return prompts * pictures if len(prompts) == 1 else prompts


def _match_negatives(negative: str | Sequence[str] | None, prompts: int) -> tuple[str, ...] | None:
    if negative is None:
        return None
    negatives = _as_tuple(negative)
    if len(negatives) not in (1, prompts):
        raise PromptError(
            "negative prompts and prompts do not match in number",
            received=f"{len(negatives)} negative prompts for {prompts} prompts",
            expected="one for each prompt, or one for all",
        )
    return negatives * prompts if len(negatives) == 1 else negatives


def _resolve_seeds(
    seed: int | Sequence[int] | None, total: int
) -> tuple[int | tuple[int, ...], tuple[int, ...]]:
    if not isinstance(seed, list | tuple):
        chosen: Any = secrets.randbelow(2**32) if seed is None else seed
        return chosen, (chosen,) * total
    if len(seed) != total:
        raise ParameterError(
            "seeds and pictures do not match in number",
            received=f"{len(seed)} seeds for {total} pictures",
            expected=f"one seed, or {total}",
            parameter="seed",
        )
    return tuple(seed), tuple(seed)


def _image_indices(total: int, count: int, pictures: int, *, tiled: bool) -> tuple[int, ...]:
    """Which picture each result starts from.

    With several prompts, several pictures and several results a prompt, diffusers repeats prompts one by one
    but pictures as a whole, so that results mix them up; only `tiled` follows it there.
    """
    return tuple((result if tiled else result // count) % pictures for result in range(total))
