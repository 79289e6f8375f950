"""A stopwatch for the stages of a request."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from inpaintrt.output import Timings

__all__ = ["Stopwatch"]


class Stopwatch:
    """Adds up the time of stages; what a caller does between stages is not counted."""

    def __init__(self) -> None:
        self._stages: dict[str, float] = {}
        self._steps: list[float] = []

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage; it is one of the fields of `Timings`."""
        started = time.perf_counter()
        yield
        self._stages[name] = self._stages.get(name, 0.0) + time.perf_counter() - started

    @contextmanager
    def step(self) -> Iterator[None]:
        """Time one step of the sampler."""
        started = time.perf_counter()
        yield
        self._steps.append(time.perf_counter() - started)

    def timings(self) -> Timings:
        """What was measured, in seconds."""
        names = ("prepare", "prompts", "image_encode", "image_decode", "paste")
        stages = {name: self._stages.get(name, 0.0) for name in names}
        denoise = sum(self._steps)
        total = sum(stages.values()) + denoise
        return Timings(**stages, denoise=denoise, total=total, steps=tuple(self._steps))
