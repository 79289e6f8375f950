"""Two ways to inpaint: diffusers on a checkpoint folder, and the torch-free runtime on a bundle."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Unpack

import torch
from diffusers import AutoencoderKL, StableDiffusionInpaintPipeline
from PIL import Image

from inpaintrt import InpaintPipeline, Options
from inpaintrt.lora import LoraSource

BATCH = 10


@dataclass(frozen=True)
class Job:
    """One image to paint."""

    prompt: str
    negative: str
    image: Image.Image
    mask: Image.Image
    seed: int


class Painter(Protocol):
    """Whatever inpaints."""

    name: str

    def paint(self, jobs: Sequence[Job], guidance: float, steps: int) -> list[Image.Image]:
        """Return the repainted images, unmasked pixels as they were."""
        ...


class DiffusersPainter:
    """Diffusers' pipeline; the unmasked pixels are put back afterwards."""

    name = "diffusers"

    def __init__(self, pipeline: StableDiffusionInpaintPipeline) -> None:
        self.pipeline = pipeline
        self.pipeline.set_progress_bar_config(disable=True)

    @classmethod
    def from_checkpoint(cls, folder: Path) -> "DiffusersPainter":
        """Load a checkpoint folder in float32."""
        return cls(StableDiffusionInpaintPipeline.from_pretrained(folder, safety_checker=None))

    def paint(self, jobs: Sequence[Job], guidance: float, steps: int) -> list[Image.Image]:
        """Return the repainted images, unmasked pixels as they were."""
        results: list[Image.Image] = []
        for first in range(0, len(jobs), BATCH):
            results += self._paint_batch(jobs[first : first + BATCH], guidance, steps)
        return results

    def _paint_batch(self, jobs: Sequence[Job], guidance: float, steps: int) -> list[Image.Image]:
        width, height = jobs[0].image.size
        painted = self.pipeline(
            prompt=[job.prompt for job in jobs],
            negative_prompt=[job.negative for job in jobs],
            image=[job.image for job in jobs],
            mask_image=[job.mask for job in jobs],
            height=height,
            width=width,
            num_inference_steps=steps,
            guidance_scale=guidance,
            generator=[torch.Generator().manual_seed(job.seed) for job in jobs],
        ).images
        pairs = zip(painted, jobs, strict=True)
        return [Image.composite(result, job.image, job.mask) for result, job in pairs]


class RuntimePainter:
    """The runtime on a bundle."""

    name = "inpaintrt"

    def __init__(
        self, bundle: Path | str, loras: Sequence[LoraSource] = (), **options: Unpack[Options]
    ) -> None:
        self.pipeline = InpaintPipeline.from_bundle(bundle, loras=loras)
        self.options = options

    def paint(self, jobs: Sequence[Job], guidance: float, steps: int) -> list[Image.Image]:
        """Return the repainted images, unmasked pixels as they were."""
        return [self._paint_one(job, guidance, steps) for job in jobs]

    def _paint_one(self, job: Job, guidance: float, steps: int) -> Image.Image:
        options: Options = {
            **self.options,
            "negative_prompt": job.negative,
            "num_inference_steps": steps,
            "guidance_scale": guidance,
            "seed": job.seed,
        }
        result = self.pipeline(job.prompt, job.image, job.mask, **options)
        return result.images[0]


def load_painter(path: Path) -> Painter:
    """Return the painter for a checkpoint folder or for a bundle."""
    if (path / "model_index.json").exists():
        return DiffusersPainter.from_checkpoint(path)
    return RuntimePainter(path)


def load_vae(checkpoint: Path) -> AutoencoderKL:
    """Return the autoencoder of a checkpoint folder, in float32."""
    return AutoencoderKL.from_pretrained(checkpoint / "vae").float().eval()
