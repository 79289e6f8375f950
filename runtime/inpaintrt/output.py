"""What a request gives back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = ["InpaintOutput", "StepEvent", "Timings"]


@dataclass(frozen=True)
class Timings:
    """Where the time went, in seconds.

    Attributes:
        prepare: Reading and preparing images and masks.
        prompts: Tokenising and encoding the prompts.
        image_encode: Images to latents.
        denoise: All steps.
        image_decode: Latents to images.
        paste: Pasting the results back.
        total: Everything, without what the caller did between steps.
        steps: Each step, by the clock of what computes it: a GPU's, where one does.
    """

    prepare: float
    prompts: float
    image_encode: float
    denoise: float
    image_decode: float
    paste: float
    total: float
    steps: tuple[float, ...]


@dataclass(frozen=True)
class InpaintOutput:
    """The results of a request.

    Attributes:
        images: Images; or, as the request asked, an array `[images, height, width, 3]` in [0, 1], or
            scaled latents `[images, channels, h, w]`.
        seeds: The seed that each image was made with.
        timings: Where the time went.
        warnings: What the caller should know, such as a prompt that was cut.
    """

    images: list[Image.Image] | NDArray[np.float32]
    seeds: tuple[int, ...]
    timings: Timings
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class StepEvent:
    """One step is done.

    Attributes:
        index: How many steps are done.
        total: How many there are; where an engine takes fewer results at once, those of all micro-batches.
        output: The results, with the last event; None before.
    """

    index: int
    total: int
    output: InpaintOutput | None = None
    _preview: Callable[[], list[Image.Image]] = field(default=list, repr=False)

    def preview(self) -> list[Image.Image]:
        """Decode the present estimate of each result; before its first step it is the image itself.

        It costs one run of the VAE's decoder for each image, of the tiny VAE's where the bundle has one. It
        may be called until the next event.
        """
        return self._preview()
