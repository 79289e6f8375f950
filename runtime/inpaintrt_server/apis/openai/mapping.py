"""From OpenAI's fields to our options."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from inpaintrt.quality import Quality
from inpaintrt.request import Options
from inpaintrt_server.apis.openai.fields import EditFields, GenerationFields, ImageFields
from inpaintrt_server.http.refusals import FieldError

__all__ = ["edit_options", "generation_options"]

_QUALITY: Mapping[str, Quality] = MappingProxyType({"low": "fast", "medium": "balanced"})
_AUTO = "auto"
_LARGEST_DISTORTION = 0.01


def edit_options(fields: EditFields, image: tuple[int, int]) -> Options:
    """The options of an edit.

    Args:
        fields: The form.
        image: Width and height of the image.

    Raises:
        FieldError: The image would be distorted.
    """
    size = fields.size if fields.size != f"{image[0]}x{image[1]}" else _AUTO
    sides = _sides(size)
    if sides is not None:
        _check_proportions(sides, image)
    return _options(fields, sides, fields.strength)


def generation_options(fields: GenerationFields) -> Options:
    """The options of a generation.

    Args:
        fields: The body.
    """
    return _options(fields, _sides(fields.size), strength=None)


def _options(fields: ImageFields, size: tuple[int, int] | None, strength: float | None) -> Options:
    """Prompts of more than one window are joined, not cut."""
    width, height = size or (None, None)
    options = Options(
        negative_prompt=fields.negative_prompt,
        preset=fields.preset,
        strength=strength,
        num_images_per_prompt=fields.n,
        seed=fields.seed,
        scheduler=fields.scheduler,
        width=width,
        height=height,
        long_prompts="windows",
    )
    if fields.steps is not None:
        options["num_inference_steps"] = fields.steps
    if fields.preset is None:
        options["quality"] = _QUALITY.get(fields.quality, "exact")
    if fields.preset is None or "guidance_scale" in fields.model_fields_set:
        options["guidance_scale"] = fields.guidance_scale
    return options


def _sides(size: str) -> tuple[int, int] | None:
    """Width and height; None for `auto`."""
    if size == _AUTO:
        return None
    width, height = size.split("x")
    return int(width), int(height)


def _check_proportions(size: tuple[int, int], image: tuple[int, int]) -> None:
    distortion = size[0] * image[1] / (size[1] * image[0])
    if abs(distortion - 1) > _LARGEST_DISTORTION:
        raise FieldError(
            "this size would distort the image",
            field="size",
            received=f"{size[0]}x{size[1]} for an image of {image[0]}x{image[1]}",
            expected="a size of the same proportions, or auto",
        )
