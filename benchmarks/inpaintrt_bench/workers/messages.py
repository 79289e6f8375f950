"""What passes between the harness and the process that is measured, as JSON; images pass as files."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["Case", "Outcome", "Runner", "Source"]


@dataclass(frozen=True, kw_only=True)
class Source:
    """What a runner loads.

    Attributes:
        checkpoint: A diffusers folder; None where there is none.
        bundle: A bundle's folder, exported from the checkpoint; None where there is none.
        threads: Threads on the CPU; None for the library's own choice.
        work: A folder for what is made from the checkpoint once, and kept for the next process.
        options: What sets this runner apart from others of its kind.
    """

    checkpoint: str | None
    bundle: str | None
    threads: int | None
    work: str
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Case:
    """The work of one run; the names are diffusers' where diffusers has them.

    Attributes:
        image: Path of the image, a PNG of the size to run at.
        mask_image: Path of the mask, white where to paint.
        prompt: What to paint.
        height: In pixels.
        width: In pixels.
        num_inference_steps: Steps of the sampler.
        guidance_scale: How strongly the prompt is followed.
        strength: How much of the image under the mask is forgotten.
        seed: Of the noise.
        noise: Path of what diffusers draws from the seed, for libraries that draw other numbers: an `.npz` of
            the first latents `[batch, channels, h, w]` and of samples of images `[1, channels, h, w]`.
        batch: Images made at once, from the one seed.
        sampler: Our name of the sampler; None for the checkpoint's own.
        scheduler: The same for diffusers: the name of a class, and what to change in the checkpoint's config.
        quality: Of ours: a word that stands in the place of steps and sampler, unless it is "exact".
    """

    image: str
    mask_image: str
    prompt: str
    height: int
    width: int
    num_inference_steps: int
    guidance_scale: float = 7.5
    strength: float = 1.0
    seed: int = 0
    noise: str
    batch: int = 1
    sampler: str | None = None
    scheduler: tuple[str, dict[str, Any]] | None = None
    quality: Literal["exact", "balanced", "fast"] = "exact"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of one run.

    Attributes:
        images: `[batch, height, width, 3]` uint8.
        total: Seconds from the request to images in main memory.
        steps: Seconds of each step of the sampler.
        stages: Seconds of each part that the library lets us time, by the names of the result file.
        notes: What a reader must know of how it ran on this machine.
    """

    images: NDArray[np.uint8]
    total: float
    steps: tuple[float, ...]
    stages: dict[str, float]
    notes: tuple[str, ...] = ()


class Runner(Protocol):
    """A library that paints; one thread calls `prepare` or `start` once, then `run`, then `close`."""

    def prepare(self, source: Source) -> None:
        """Make what the library needs beside the checkpoint, where it is not there yet, and keep it."""
        ...

    def start(self, source: Source) -> None:
        """Load everything, so that `run` can follow."""
        ...

    def run(self, case: Case) -> Outcome:
        """Paint once; nothing that an earlier run computed may be used again."""
        ...

    def close(self) -> None:
        """Release what `start` took."""
        ...
