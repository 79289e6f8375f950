"""What a caller asks for, checked before any engine runs."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from inpaintrt.errors import MaskError, ParameterError, PromptError
from inpaintrt.guidance import Guidance
from inpaintrt.images import ImageSource
from inpaintrt.options import Options, make_options

__all__ = ["Options", "Request", "Task", "make_request"]

Task = Literal["inpainting", "image-to-image", "text-to-image"]


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
        options: All options, checked, with defaults filled in.
    """

    prompts: tuple[str, ...]
    negatives: tuple[str, ...] | None
    images: tuple[ImageSource, ...]
    masks: tuple[ImageSource, ...]
    image_indices: tuple[int, ...]
    noise_seeds: int | tuple[int, ...]
    seeds: tuple[int, ...]
    guidance: Guidance
    options: Options = field(repr=False)

    @property
    def task(self) -> Task:
        """What is asked for, by what was handed in."""
        if not self.images:
            return "text-to-image"
        return "inpainting" if self.masks else "image-to-image"


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
    settings = make_options(**options)
    images, masks = _pair_pictures(image, mask_image)
    prompts = _match_prompts(prompt, len(images))
    negatives = _match_negatives(settings["negative_prompt"], len(prompts))
    count = settings["num_images_per_prompt"]
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
            settings["guidance_scale"], settings["negative_mode"], settings["guidance_interval"]
        ),
        options=settings,
    )


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
