"""What a caller asks for, checked before any engine runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from inpaintrt.array_like import ArrayLike
from inpaintrt.errors import LatentsError, MaskError, ParameterError, PromptError
from inpaintrt.families import FAMILIES, Family
from inpaintrt.guidance import Guidance
from inpaintrt.images import ImageSource, LatentImage
from inpaintrt.noise import resolve_seeds
from inpaintrt.options import OPTIONS, Options, Task, make_options
from inpaintrt.quality import DOCUMENTED, Qualities

__all__ = ["Options", "Prompt", "Request", "Task", "make_request"]

Prompt: TypeAlias = str | NDArray[np.floating]
"""A text, or its embedding `[tokens, width]`."""


@dataclass(frozen=True)
class Request:
    """A checked request: no field is missing and lists have their lengths.

    Attributes:
        prompts: One for each result, as are `negatives`, `image_indices` and `seeds`.
        negatives: Negative prompts; None where the caller gave none.
        prompts_2, negatives_2: What a second text encoder reads; None where it reads the same.
        pooled, negative_pooled: Embeddings `[width]` of whole prompts; None where the caller gave none.
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
    images: tuple[ImageSource | LatentImage, ...]
    masks: tuple[ImageSource | None, ...]
    image_indices: tuple[int, ...]
    noise_seeds: int | tuple[int, ...]
    seeds: tuple[int, ...]
    guidance: Guidance
    strength: float
    options: Options = field(repr=False)
    prompts_2: tuple[str, ...] | None = None
    negatives_2: tuple[str, ...] | None = None
    pooled: tuple[NDArray[np.floating], ...] | None = None
    negative_pooled: tuple[NDArray[np.floating], ...] | None = None

    @property
    def latents(self) -> NDArray[np.floating] | None:
        """The first latents `[results, channels, h, w]`, where the caller gave them."""
        return cast("NDArray[np.floating] | None", self.options["latents"])

    @property
    def task(self) -> Task:
        """What is asked for, by what was handed in."""
        return _task(self.images, self.masks)


def make_request(
    prompt: str | Sequence[str] | None,
    image: ImageSource | Sequence[ImageSource] | None,
    mask_image: ImageSource | Sequence[ImageSource] | None,
    options: Options,
    family: Family,
    qualities: Qualities = DOCUMENTED,
) -> Request:
    """Fill in defaults and check everything that can be checked without looking at images.

    An image and a mask (or margins) make a request for inpainting, an image alone one for image-to-image,
    and neither one for text-to-image.

    Args:
        prompt: One text, or one for each image.
        image: One image, one for each mask, or None.
        mask_image: One mask, one for each image, or None.
        options: As the caller gave them.
        family: That of the checkpoint: its defaults hold, and it may not have all options.
        qualities: What the words of `quality` stand for with the bundle.

    Raises:
        ParameterError: An option is unknown, out of its range, or of no use for the task.
        PromptError: There is no prompt; prompts, negative prompts and images do not match in number; or
            embeddings come with texts or have another shape.
        MaskError: Images and masks do not match in number, or there is a mask and no image.
        LatentsError: The latents are not finite.
    """
    settings = make_options(qualities, **options)
    images, masks = _pair_images(
        _image_or_latents(image, settings), mask_image, margins=any(settings["margins"])
    )
    _check_options_of_family(settings, family)
    _check_options_of_task(settings, images, masks)
    _check_embeddings(settings)
    prompts = _match_prompts(_either("prompt", prompt, settings["prompt_embeds"]), len(images))
    negatives = _match(
        "negative prompts",
        _either("negative_prompt", settings["negative_prompt"], settings["negative_prompt_embeds"]),
        len(prompts),
    )
    count = settings["num_images_per_prompt"]
    total = len(prompts) * count
    noise_seeds, seeds = resolve_seeds(
        settings["seed"], total, as_diffusers=settings["compat"] == "diffusers"
    )
    task = _task(images, masks)
    defaults = family.defaults[task]
    scale, strength = settings["guidance_scale"], settings["strength"]
    return Request(
        prompts=_repeated(prompts, count),
        negatives=negatives and _repeated(negatives, count),
        images=images,
        masks=masks,
        image_indices=_image_indices(total, count, len(images), tiled=settings["compat"] == "diffusers"),
        noise_seeds=noise_seeds,
        seeds=seeds,
        guidance=Guidance(
            defaults.guidance_scale if scale is None else scale,
            settings["negative_mode"],
            settings["guidance_interval"],
        ),
        strength=defaults.strength if strength is None else strength,
        options=settings,
        **_second_prompts(settings, len(prompts)),
    )


def _task(images: tuple[object, ...], masks: tuple[object, ...]) -> Task:
    """What is asked for, by what was handed in."""
    if not images:
        return "text-to-image"
    return "inpainting" if masks else "image-to-image"


def _repeated(values: tuple[Any, ...], count: int) -> tuple[Any, ...]:
    return tuple(value for value in values for _ in range(count))


def _second_prompts(options: Options, prompts: int) -> dict[str, tuple[Any, ...] | None]:
    """What SDXL takes beside a prompt and a negative prompt, for each result."""
    count = options["num_images_per_prompt"]
    given: dict[str, tuple[Any, ...] | None] = {}
    for field_name, name, texts in (
        ("prompts_2", "prompt_2", options["prompt_2"]),
        ("negatives_2", "negative_prompt_2", options["negative_prompt_2"]),
    ):
        # As in diffusers, an empty text is none.
        given[field_name] = _match(name, _as_tuple(texts) if texts else None, prompts)
    for field_name, name, embeddings in (
        ("pooled", "pooled_prompt_embeds", options["pooled_prompt_embeds"]),
        ("negative_pooled", "negative_pooled_prompt_embeds", options["negative_pooled_prompt_embeds"]),
    ):
        arrays = cast("NDArray[np.floating] | None", embeddings)
        given[field_name] = _match(name, None if arrays is None else tuple(arrays), prompts)
    return {name: values and _repeated(values, count) for name, values in given.items()}


def _check_options_of_family(options: Options, family: Family) -> None:
    """Refuse options that only other families have."""
    others = {name for other in FAMILIES.values() for name in other.options} - family.options
    values = dict(options)
    foreign = [name for name in OPTIONS if name in others and not _is_default(name, values[name])]
    if foreign:
        raise ParameterError(
            f"{foreign[0]} has no meaning for this checkpoint",
            received=f"{foreign[0]} with a checkpoint of the family {family.name!r}",
            expected=f"a checkpoint of the family {_owner(foreign[0])!r}, or no such option",
            parameter=foreign[0],
        )


def _is_default(name: str, value: object) -> bool:
    return not isinstance(value, np.ndarray) and value == OPTIONS[name].default


def _owner(option: str) -> str:
    return next(family.name for family in FAMILIES.values() if option in family.options)


def _image_or_latents(
    image: ImageSource | Sequence[ImageSource] | None, options: Options
) -> ImageSource | Sequence[ImageSource | LatentImage] | None:
    """The images, or the latents in the place of images."""
    latents = cast("NDArray[np.floating] | None", options["image_latents"])
    if latents is None:
        return image
    if image is not None:
        raise ParameterError(
            "an image and image_latents are both given",
            received="both",
            expected="one of them",
            parameter="image_latents",
        )
    if latents.ndim != 4 or 0 in latents.shape:
        raise LatentsError(
            "image_latents have the wrong shape",
            received=list(latents.shape),
            expected="[images, channels, height, width]",
            parameter="image_latents",
        )
    useless = [name for name in _FOR_PIXELS if dict(options)[name] != OPTIONS[name].default]
    if useless:
        raise ParameterError(
            f"{useless[0]} has no meaning for image_latents",
            received=f"{useless[0]} = {dict(options)[useless[0]]!r}",
            expected="an image, or no such option",
            parameter=useless[0],
        )
    return [LatentImage(each.astype(np.float32)) for each in latents]


_FOR_PIXELS = ("padding_mask_crop", "fill", "margins", "height", "width")
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
    if options["denoising_start"] is not None and (not images or options["latents"] is not None):
        raise ParameterError(
            "denoising_start goes on with an image",
            received="latents" if images else "no image",
            expected="image_latents that another run has left, or an image",
            parameter="denoising_start",
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


def _pair_images(
    image: ImageSource | Sequence[ImageSource | LatentImage] | None,
    mask: ImageSource | Sequence[ImageSource] | None,
    *,
    margins: bool,
) -> tuple[tuple[ImageSource | LatentImage, ...], tuple[ImageSource | None, ...]]:
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
    values = dict(options)
    _check_shapes(values, ("prompt_embeds", "negative_prompt_embeds"), ("prompts", "tokens", "width"))
    pooled = ("pooled_prompt_embeds", "negative_pooled_prompt_embeds")
    _check_shapes(values, pooled, ("prompts", "width"))
    for name in pooled:
        tokens = name.replace("pooled_", "")
        if (values[name] is None) < (values[tokens] is None):
            raise PromptError(
                f"{name} come without {tokens}",
                received=f"{name} alone",
                expected="both, or a text",
                parameter=tokens,
            )
    for name, embeddings in (
        ("clip_skip", "prompt_embeds"),
        ("prompt_2", "prompt_embeds"),
        ("negative_prompt_2", "negative_prompt_embeds"),
    ):
        if values[embeddings] is not None and values[name] is not None:
            raise ParameterError(
                f"{name} has no meaning for embeddings",
                received=f"{embeddings} and {name} = {values[name]!r}",
                expected="one of them",
                parameter=name,
            )


def _check_shapes(values: Mapping[str, Any], names: tuple[str, ...], axes: tuple[str, ...]) -> None:
    """Check that embeddings have these axes, and fit each other."""
    shapes = {name: values[name].shape for name in names if values[name] is not None}
    for name, shape in shapes.items():
        if len(shape) != len(axes) or 0 in shape:
            raise PromptError(
                f"{name} has the wrong shape",
                received=list(shape),
                expected=f"[{', '.join(axes)}]",
                parameter=name,
            )
    if len({shape[1:] for shape in shapes.values()}) > 1:
        raise PromptError(
            f"{' and '.join(names)} have different shapes",
            received=" and ".join(str(list(shape)) for shape in shapes.values()),
            expected="as many tokens of the same width" if len(axes) > 2 else "the same width",
            parameter=names[1],
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


def _match(name: str, values: tuple[Any, ...] | None, prompts: int) -> tuple[Any, ...] | None:
    """One value for each prompt."""
    if values is None:
        return None
    if len(values) not in (1, prompts):
        raise PromptError(
            f"{name} and prompts do not match in number",
            received=f"{len(values)} {name} for {prompts} prompts",
            expected="one for each prompt, or one for all",
        )
    return values * prompts if len(values) == 1 else values


def _image_indices(total: int, count: int, images: int, *, tiled: bool) -> tuple[int, ...]:
    """Which image each result starts from.

    With several prompts, several images and several results a prompt, diffusers repeats prompts one by one
    but images as a whole, so that results mix them up; only `tiled` follows it there.
    """
    return tuple((result if tiled else result // count) % max(images, 1) for result in range(total))
