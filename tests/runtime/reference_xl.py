"""The reference for SDXL: diffusers' three pipelines, asked in the words of our own."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import (
    StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLInpaintPipeline,
    StableDiffusionXLPipeline,
)
from PIL import Image

from runtime.reference import generators

__all__ = ["ReferenceXL"]


class ReferenceXL:
    """A checkpoint of SDXL in diffusers, with our names for what it is asked, and without watermarks.

    Args:
        checkpoint: The folder.
        settings: What pipelines are constructed with, in place of what the checkpoint's `model_index.json`
            says.
    """

    def __init__(self, checkpoint: Path, **settings: Any) -> None:
        pipe: Any = StableDiffusionXLInpaintPipeline.from_pretrained(
            checkpoint, add_watermarker=False, **settings
        )
        self.scheduler = pipe.scheduler
        self._components: dict[str, Any] = pipe.components
        self._zeros = pipe.config.force_zeros_for_empty_prompt
        self._scores = pipe.config.requires_aesthetics_score

    @property
    def unet(self) -> Any:
        """The UNet of all three pipelines."""
        return self._components["unet"]

    def __call__(
        self,
        prompt: str | Sequence[str] | None,
        image: Any = None,
        mask_image: Any = None,
        *,
        seed: int | Sequence[int] = 0,
        scheduler: Any = None,
        **options: Any,
    ) -> list[Image.Image]:
        """The images for these options; the task follows from what is given."""
        given = {"image": image, "mask_image": mask_image, **options}
        output = self._pipeline(image, mask_image, scheduler)(
            prompt=prompt,
            generator=generators(seed),
            **{
                name: torch.from_numpy(value) if isinstance(value, np.ndarray) else value
                for name, value in given.items()
                if value is not None
            },
        )
        images: list[Image.Image] = output.images
        return images

    def _pipeline(self, image: Any, mask_image: Any, scheduler: Any) -> Any:
        fresh = scheduler or type(self.scheduler).from_config(self.scheduler.config)
        settings = {"force_zeros_for_empty_prompt": self._zeros, "add_watermarker": False}
        kind: Any = StableDiffusionXLPipeline
        if image is not None:
            kind = (
                StableDiffusionXLImg2ImgPipeline if mask_image is None else StableDiffusionXLInpaintPipeline
            )
            settings["requires_aesthetics_score"] = self._scores
        pipe = kind(**{**self._components, "scheduler": fresh}, **settings)
        pipe.set_progress_bar_config(disable=True)
        return pipe
