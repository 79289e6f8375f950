"""The picture, the mask and the prompt that are painted, at any size."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from inpaintrt.demo import load_scene
from inpaintrt.samplers.names import choose
from inpaintrt_bench.workers.messages import Case

__all__ = ["make_case"]


def make_case(
    work: Path,
    *,
    width: int,
    height: int,
    steps: int,
    prompt: str | None = None,
    guidance_scale: float = 7.5,
    seed: int = 0,
    batch: int = 1,
    sampler: str | None = None,
) -> Case:
    """The demo's scene, stretched to a size and written as files that every library can read.

    Args:
        work: Folder for picture and mask.
        width: In pixels.
        height: In pixels.
        steps: Of the sampler.
        prompt: What to paint; None takes the demo's first prompt.
        guidance_scale: How strongly the prompt is followed.
        seed: Of the noise.
        batch: Pictures made at once.
        sampler: A name that `inpaintrt samplers` lists; None for the checkpoint's own.

    Raises:
        SchedulerError: There is no such sampler, or it is one that diffusers has no single class for.
    """
    scene = load_scene()
    size = (width, height)
    image, mask = work / f"picture-{width}x{height}.png", work / f"mask-{width}x{height}.png"
    scene.image.resize(size, Image.Resampling.BICUBIC).save(image)
    scene.mask.resize(size, Image.Resampling.NEAREST).save(mask)
    choice = None if sampler is None else choose(sampler)
    return Case(
        image=str(image),
        mask_image=str(mask),
        prompt=scene.script.prompts[0] if prompt is None else prompt,
        height=height,
        width=width,
        num_inference_steps=steps,
        guidance_scale=guidance_scale,
        seed=seed,
        batch=batch,
        sampler=sampler,
        scheduler=None if choice is None else (choice.class_name, {**choice.fallbacks, **choice.overrides}),
    )
