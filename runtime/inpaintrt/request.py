"""What a caller asks for, checked before any engine runs."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from inpaintrt.array_like import ArrayLike
from inpaintrt.errors import MaskError, ParameterError, PromptError
from inpaintrt.guidance import Guidance
from inpaintrt.images import ImageSource
from inpaintrt.options import OPTIONS, Options, make_options

__all__ = ["Options", "Prompt", "Request", "Task", "make_request"]

Prompt: TypeAlias = str | NDArray[np.floating]
"""A text, or its embedding `[tokens, width]`."""

Task = Literal["inpainting", "image-to-image", "text-to-image"]


@dataclass(frozen=True)
class Request:
    """A checked request: no field is missing and lists have their lengths.

    Attributes:
        prompts: One for each result, as are `negatives`, `image_indices` and `seeds`.
        negatives: Negative prompts; None where the caller gave none.
        images: The images that were handed in; none for text-to-image.
        masks: As many as `images`, None where only margins are painted; none for the other tasks.
        image_indices: Which of `images` each result starts from.
        noise_seeds: One seed for all results, or one for each.
        seeds: The seed that each result reports.
        guidance: How the prompts' predictions combine.
        strength: How much of the image is forgotten; 1 without an image.
        options: All options, checked, with defaults filled in.
    """

    prompts: tuple[Prompt, ...]
    negatives: tuple[Prompt, ...] | None
    images: tuple[ImageSource, ...]
    masks: tuple[ImageSource | None, ...]
    image_indices: tuple[int, ...]
    noise_seeds: int | tuple[int, ...]
    seeds: tuple[int, ...]
    guidance: Guidance
    strength: float
    options: Options = field(repr=False)

    @property
    def latents(self) -> NDArray[np.floating] | None:
        """The first latents `[results, channels, h, w]`, where the caller gave them."""
        return cast("NDArray[np.floating] | None", self.options["latents"])

    @property
    def task(self) -> Task:
        """What is asked for, by what was handed in."""
        if not self.images:
            return "text-to-image"
        return "inpainting" if self.masks else "image-to-image"


def make_request(
    prompt: str | Sequence[str] | None,
    image: ImageSource | Sequence[ImageSource] | None,
    mask_image: ImageSource | Sequence[ImageSource] | None,
    options: Options,
) -> Request:
    """Fill in defaults and check everything that can be checked without looking at images.

    An image and a mask (or margins) make a request for inpainting, an image alone one for image-to-image,
    and neither one for text-to-image.

    Raises:
        ParameterError: An option is unknown, out of its range, or of no use for the task.
        PromptError: There is no prompt; prompts, negative prompts and images do not match in number; or
            embeddings come with texts or have another shape.
        MaskError: Images and masks do not match in number, or there is a mask and no image.
        LatentsError: The latents are not finite.
    """
    settings = make_options(**options)
    images, masks = _pair_images(image, mask_image, margins=any(settings["margins"]))
    _check_options_of_task(settings, images, masks)
    _check_embeddings(settings)
    prompts = _match_prompts(_either("prompt", prompt, settings["prompt_embeds"]), len(images))
    negatives = _match_negatives(
        _either("negative_prompt", settings["negative_prompt"], settings["negative_prompt_embeds"]),
        len(prompts),
    )
    count = settings["num_images_per_prompt"]
    total = len(prompts) * count
    noise_seeds, seeds = _resolve_seeds(settings["seed"], total)
    return Request(
        prompts=tuple(each for each in prompts for _ in range(count)),
        negatives=None if negatives is None else tuple(each for each in negatives for _ in range(count)),
        images=images,
        masks=masks,
        image_indices=_image_indices(total, count, len(images), tiled=settings["compat"] == "diffusers"),
        noise_seeds=noise_seeds,
        seeds=seeds,
        guidance=Guidance(
            settings["guidance_scale"], settings["negative_mode"], settings["guidance_interval"]
        ),
        strength=_strength(settings["strength"], image_alone=bool(images) and not masks),
        options=settings,
    )


_FOR_MASKS = (
    "padding_mask_crop",
    "mask_blur",
    "mask_grow",
    "mask_invert",
    "mask_mode",
    "fill",
)


def _check_options_of_task(options: Options, images: tuple[object, ...], masks: tuple[object, ...]) -> None:
    if not images and options["strength"] is not None:
        raise ParameterError(
            "strength has no meaning without an image",
            received=f"strength = {options['strength']}",
            expected="an image, or no strength",
            parameter="strength",
        )
    values = dict(options)
    useless = [name for name in _FOR_MASKS if not masks and values[name] != OPTIONS[name].default]
    if useless:
        raise ParameterError(
            f"{useless[0]} has no meaning without a mask",
            received=f"{useless[0]} = {values[useless[0]]!r}",
            expected="a mask, or no such option",
            parameter=useless[0],
        )


def _strength(given: float | None, *, image_alone: bool) -> float:
    """What the caller gave, or what diffusers' pipelines take: 0.8 for image-to-image, 1 for inpainting."""
    if given is not None:
        return given
    return 0.8 if image_alone else 1.0


def _pair_images(
    image: ImageSource | Sequence[ImageSource] | None,
    mask: ImageSource | Sequence[ImageSource] | None,
    *,
    margins: bool,
) -> tuple[tuple[ImageSource, ...], tuple[ImageSource | None, ...]]:
    if image is None:
        if mask is not None or margins:
            raise MaskError(
                "there is a mask or a margin, and no image",
                expected="an image to repaint, or neither mask nor margins for text-to-image",
            )
        return (), ()
    images, masks = _as_tuple(image), _as_tuple(mask)
    if mask is None and not margins and images:
        return images, ()
    pairs = max(len(images), len(masks))
    if not images or not masks or {len(images), len(masks)} - {1, pairs}:
        raise MaskError(
            "images and masks do not match in number",
            received=f"{len(images)} images and {len(masks)} masks",
            expected="one of each, a mask for each image, or one for all",
        )
    return images * (pairs // len(images)), masks * (pairs // len(masks))


def _as_tuple(value: object) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, list | tuple) else (value,)


def _check_embeddings(options: Options) -> None:
    """Check what diffusers' `check_inputs` does of embeddings."""
    names = ("prompt_embeds", "negative_prompt_embeds")
    given = {name: cast("NDArray[np.floating] | None", dict(options)[name]) for name in names}
    shapes = {name: array.shape for name, array in given.items() if array is not None}
    for name, shape in shapes.items():
        if len(shape) != 3 or 0 in shape:
            raise PromptError(
                f"{name} has the wrong shape",
                received=list(shape),
                expected="[prompts, tokens, width]",
                parameter=name,
            )
    if len({shape[1:] for shape in shapes.values()}) > 1:
        raise PromptError(
            "prompt_embeds and negative_prompt_embeds have different shapes",
            received=" and ".join(str(list(shape)) for shape in shapes.values()),
            expected="as many tokens of the same width",
            parameter="negative_prompt_embeds",
        )
    if "prompt_embeds" in shapes and options["clip_skip"] is not None:
        raise ParameterError(
            "clip_skip has no meaning for embeddings",
            received=f"prompt_embeds and clip_skip = {options['clip_skip']}",
            expected="one of them",
            parameter="clip_skip",
        )


def _either(name: str, texts: object, embeddings: ArrayLike | None) -> tuple[Prompt, ...] | None:
    """What the caller gave: texts, embeddings, or None for neither."""
    if embeddings is None:
        return None if texts is None else _as_tuple(texts)
    if texts is not None:
        raise PromptError(
            f"{name} and {name}_embeds are both given",
            received=f"{name} = {texts!r} and embeddings",
            expected="one of them",
            parameter=f"{name}_embeds",
        )
    return tuple(cast("NDArray[np.floating]", embeddings))


def _match_prompts(prompts: tuple[Prompt, ...] | None, images: int) -> tuple[Prompt, ...]:
    if prompts is None:
        raise PromptError("there is no prompt", expected="prompt, or prompt_embeds", parameter="prompt")
    if not prompts or (images > 1 and len(prompts) not in (1, images)):
        raise PromptError(
            "prompts and images do not match in number",
            received=f"{len(prompts)} prompts for {images} images",
            expected="a prompt for each image, or one for all",
        )
    return prompts * max(images, 1) if len(prompts) == 1 else prompts


def _match_negatives(negatives: tuple[Prompt, ...] | None, prompts: int) -> tuple[Prompt, ...] | None:
    if negatives is None:
        return None
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
            "seeds and results do not match in number",
            received=f"{len(seed)} seeds for {total} results",
            expected=f"one seed, or {total}",
            parameter="seed",
        )
    return tuple(seed), tuple(seed)


def _image_indices(total: int, count: int, images: int, *, tiled: bool) -> tuple[int, ...]:
    """Which image each result starts from.

    With several prompts, several images and several results a prompt, diffusers repeats prompts one by one
    but images as a whole, so that results mix them up; only `tiled` follows it there.
    """
    return tuple((result if tiled else result // count) % max(images, 1) for result in range(total))
