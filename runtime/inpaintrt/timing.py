"""A stopwatch for the stages of a request."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from inpaintrt.backends import Clock
from inpaintrt.output import Timings

__all__ = ["HostClock", "Stopwatch"]


class HostClock:
    """The host's clock, for work that is done when the call returns."""

    @contextmanager
    def measure(self) -> Iterator[Callable[[], float]]:
        """Time what is done inside; the value, called after it, gives the seconds."""
        moments = [time.perf_counter()]
        yield lambda: moments[-1] - moments[0]
        moments.append(time.perf_counter())


class Stopwatch:
    """Adds up the time of stages; what a caller does between stages is not counted."""

    def __init__(self) -> None:
        self._stages: dict[str, float] = {}
        self._steps: list[Callable[[], float]] = []

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage; it is one of the fields of `Timings`."""
        with HostClock().measure() as seconds:
            yield
        self._stages[name] = self._stages.get(name, 0.0) + seconds()

    def seconds(self, name: str) -> float:
        """What a stage took until now."""
        return self._stages.get(name, 0.0)

    @contextmanager
    def step(self, clock: Clock | None = None) -> Iterator[None]:
        """Time one step of the sampler, by the clock of what computes it; by default the host's."""
        with (clock or HostClock()).measure() as seconds:
            yield
        self._steps.append(seconds)

    def timings(self) -> Timings:
        """What was measured, in seconds; a device's clock is read here, when its work is done."""
        names = ("prepare", "prompts", "image_encode", "image_decode", "paste")
        stages = {name: self.seconds(name) for name in names}
        steps = tuple(seconds() for seconds in self._steps)
        denoise = sum(steps)
        return Timings(**stages, denoise=denoise, total=sum(stages.values()) + denoise, steps=steps)
