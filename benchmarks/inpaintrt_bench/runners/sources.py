"""What runners load, and what they paint."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from inpaintrt.demo import load_scene
from inpaintrt.errors import ParameterError
from inpaintrt.noise import Generator
from inpaintrt.samplers.names import choose
from inpaintrt.store import cache_folder, find_bundle
from inpaintrt_bench.processes import run_alone
from inpaintrt_bench.workers.messages import Case

if TYPE_CHECKING:
    from inpaintrt.bundle import Precision

__all__ = ["default_work_folder", "draw_noise", "find_sources", "make_case"]

_DEMO = "demo"
_SYNTHETIC = "synthetic:"
_LATENT_CHANNELS, _LATENT_FACTOR = 4, 8  # of every Stable Diffusion
_ENCODED_IMAGES = 2


def default_work_folder() -> Path:
    """Where exported checkpoints are kept between measurements: in the user's cache."""
    return cache_folder() / "benchmark-work"


def find_sources(
    bundle: str | None,
    checkpoint: str | None,
    work: Path,
    *,
    precision: Precision,
    progress: Callable[[str], None],
) -> tuple[Path, Path | None]:
    """Find a bundle and its checkpoint, and make what is missing.

    Args:
        bundle: A bundle's name or path; None to export it from the checkpoint, or for the demo's.
        checkpoint: A diffusers folder, or `synthetic:NAME`; None if there is none, or for the demo's.
        work: Where synthetic checkpoints and exported bundles are kept; what is there is used again.
        precision: Of an exported bundle.
        progress: Called with what is being made.

    Returns:
        Folders of the bundle and of the checkpoint; None for a checkpoint that is not at hand.

    Raises:
        BundleNotFoundError: There is no such bundle.
        ParameterError: There is no such checkpoint.
        ExportError: The checkpoint cannot be exported.
    """
    folder = _find_checkpoint(checkpoint, work, progress)
    if bundle is not None or folder is None:
        named = find_bundle(bundle or _DEMO)
        is_demo = folder is None and named.resolve() == find_bundle(_DEMO).resolve()
        return named, _demo_checkpoint() if is_demo else folder
    return _export(folder, work / "bundles" / f"{folder.name}-{precision}", precision, progress), folder


def _demo_checkpoint() -> Path | None:
    """The demo's checkpoint, which only a source checkout has."""
    folder = Path(__file__).parents[3] / "demo" / "checkpoint"
    return folder if folder.is_dir() else None


def _find_checkpoint(checkpoint: str | None, work: Path, progress: Callable[[str], None]) -> Path | None:
    if checkpoint is None:
        return None
    if not checkpoint.startswith(_SYNTHETIC):
        folder = Path(checkpoint)
        if not (folder / "model_index.json").is_file():
            raise ParameterError(
                "there is no such checkpoint",
                received=checkpoint,
                expected="a diffusers folder, or synthetic:sd15-inpaint",
            )
        return folder.resolve()
    folder = work / "checkpoints" / checkpoint.removeprefix(_SYNTHETIC)
    if not (folder / "model_index.json").is_file():
        progress(f"drawing {checkpoint} into {folder}")
        from inpaintrt_export.sources.synthetic import save_checkpoint

        folder.mkdir(parents=True, exist_ok=True)
        run_alone(save_checkpoint, checkpoint, folder)
    return folder


def _export(checkpoint: Path, folder: Path, precision: Precision, progress: Callable[[str], None]) -> Path:
    if not (folder / "bundle.json").is_file():
        progress(f"exporting {checkpoint} to {folder}")
        from inpaintrt_export.exporter import export_bundle

        folder.parent.mkdir(parents=True, exist_ok=True)
        run_alone(export_bundle, checkpoint, folder, precision=precision)
    return folder


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
        work: Folder for image and mask.
        width: In pixels.
        height: In pixels.
        steps: Of the sampler.
        prompt: What to paint; None takes the demo's first prompt.
        guidance_scale: How strongly the prompt is followed.
        seed: Of the noise.
        batch: Images made at once.
        sampler: A name that `inpaintrt samplers` lists; None for the checkpoint's own.

    Raises:
        SchedulerError: There is no such sampler, or it is one that diffusers has no single class for.
    """
    scene = load_scene()
    size = (width, height)
    image, mask = work / f"image-{width}x{height}.png", work / f"mask-{width}x{height}.png"
    noise = work / f"noise-{seed}-{batch}x{width}x{height}.npz"
    scene.image.resize(size, Image.Resampling.BICUBIC).save(image)
    scene.mask.resize(size, Image.Resampling.NEAREST).save(mask)
    draw_noise(noise, seed, batch, height, width)
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
        noise=str(noise),
        batch=batch,
        sampler=sampler,
        scheduler=None if choice is None else (choice.class_name, {**choice.fallbacks, **choice.overrides}),
    )


def draw_noise(path: Path, seed: int, batch: int, height: int, width: int) -> None:
    """Write what diffusers draws from a seed, see `Case.noise`.

    Args:
        path: An `.npz` file.
        seed: The seed.
        batch: Number of images.
        height: In pixels.
        width: In pixels.
    """
    generator = Generator(seed)
    size = (_LATENT_CHANNELS, height // _LATENT_FACTOR, width // _LATENT_FACTOR)
    counts = (batch, *(1,) * _ENCODED_IMAGES)
    np.savez(path, *(generator.randn((count, *size)) for count in counts))
