"""The demo: one drawn image, one mask, three prompts, on the bundle that comes with the package."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources

import msgspec
from PIL import Image

from inpaintrt.output import Timings
from inpaintrt.pipeline import InpaintPipeline

__all__ = ["DemoResult", "DemoScene", "load_scene", "paint_scene", "strip"]

_GAP = 8
_SCALE = 2


class _Script(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    prompts: tuple[str, ...]
    seed: int
    num_inference_steps: int = 20
    guidance_scale: float = 7.5


@dataclass(frozen=True)
class DemoScene:
    """An image, a mask, and what to paint there."""

    image: Image.Image
    mask: Image.Image
    script: _Script


@dataclass(frozen=True)
class DemoResult:
    """One prompt's image, and where the time went."""

    prompt: str
    image: Image.Image
    timings: Timings


def load_scene() -> DemoScene:
    """The demo's image, mask and prompts, from the package."""
    assets = resources.files("inpaintrt") / "demo_assets"
    with (assets / "input.png").open("rb") as image, (assets / "mask.png").open("rb") as mask:
        script = msgspec.json.decode((assets / "prompts.json").read_bytes(), type=_Script)
        return DemoScene(Image.open(image).convert("RGB"), Image.open(mask).convert("L"), script)


def paint_scene(pipe: InpaintPipeline, scene: DemoScene) -> Iterator[DemoResult]:
    """Paint the scene once for each of its prompts."""
    for prompt in scene.script.prompts:
        output = pipe(
            prompt,
            scene.image,
            scene.mask,
            num_inference_steps=scene.script.num_inference_steps,
            guidance_scale=scene.script.guidance_scale,
            seed=scene.script.seed,
        )
        if isinstance(output.images, list):
            yield DemoResult(prompt, output.images[0], output.timings)


def strip(scene: DemoScene, results: list[DemoResult]) -> Image.Image:
    """The image, the mask and the results side by side."""
    images = [scene.image, scene.mask.convert("RGB"), *(result.image for result in results)]
    width, height = (side * _SCALE for side in scene.image.size)
    sheet = Image.new("RGB", (len(images) * (width + _GAP) - _GAP, height), "white")
    for index, image in enumerate(images):
        sheet.paste(image.resize((width, height), Image.Resampling.BICUBIC), (index * (width + _GAP), 0))
    return sheet
