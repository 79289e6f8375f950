"""From OpenAI's fields to our options."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from inpaintrt.request import Options
from inpaintrt_server.apis.openai.fields import EditFields
from inpaintrt_server.http.refusals import FieldError

__all__ = ["options_of"]

_STEPS: Mapping[str, int] = MappingProxyType({"low": 15, "medium": 25})
_MOST_STEPS = 50
_LARGEST_DISTORTION = 0.01


def options_of(fields: EditFields, image: tuple[int, int]) -> Options:
    """The options that a form asks for. Prompts of more than one window are joined, not cut.

    Args:
        fields: The form.
        image: Width and height of the image.

    Raises:
        FieldError: The image would be distorted.
    """
    width, height = _size(fields.size, image)
    return Options(
        negative_prompt=fields.negative_prompt,
        num_inference_steps=_STEPS.get(fields.quality, _MOST_STEPS) if fields.steps is None else fields.steps,
        guidance_scale=fields.guidance_scale,
        strength=fields.strength,
        num_images_per_prompt=fields.n,
        seed=fields.seed,
        scheduler=fields.scheduler,
        width=width,
        height=height,
        long_prompts="windows",
    )


def _size(size: str, image: tuple[int, int]) -> tuple[int | None, int | None]:
    if size in ("auto", f"{image[0]}x{image[1]}"):
        return None, None
    width, height = (int(side) for side in size.split("x"))
    distortion = width * image[1] / (height * image[0])
    if abs(distortion - 1) > _LARGEST_DISTORTION:
        raise FieldError(
            "this size would distort the image",
            field="size",
            received=f"{size} for an image of {image[0]}x{image[1]}",
            expected="a size of the same proportions, or auto",
        )
    return width, height
