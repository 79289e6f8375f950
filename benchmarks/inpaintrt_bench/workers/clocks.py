"""Stopwatches for the parts of a run, on the processor's clock or on a GPU's."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

__all__ = ["Clock", "HostClock", "StageWatch"]


class Clock(Protocol):
    """Takes marks, and tells the time between two of them."""

    def mark(self) -> Any:  # noqa: ANN401
        """This moment of what is being computed."""
        ...

    def seconds(self, start: Any, end: Any) -> float:  # noqa: ANN401
        """From one mark to another; it may wait for both."""
        ...


class HostClock:
    """The processor's clock, for libraries that return when they are done."""

    def mark(self) -> float:
        """This moment, in seconds."""
        return time.perf_counter()

    def seconds(self, start: float, end: float) -> float:
        """From one mark to another."""
        return end - start


class StageWatch:
    """Times functions of a library by the stage that they belong to, and the steps of a loop.

    A function that is called within another stage belongs to that stage.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._spans: list[tuple[str, Any, Any]] = []
        self._loop: list[Any] = []
        self._busy = False

    def reset(self) -> None:
        """Forget everything: a new run begins."""
        self._spans, self._loop, self._busy = [], [], False

    def follow(self, owner: Any, name: str, stage: str) -> None:  # noqa: ANN401
        """Time a function of an object or a class from now on."""
        setattr(owner, name, self._timed(getattr(owner, name), stage))

    def follow_loop(self, owner: Any, name: str) -> None:  # noqa: ANN401
        """Let the first step begin where this function is called."""
        inner = getattr(owner, name)

        def timed(*arguments: Any, **options: Any) -> Any:  # noqa: ANN401
            self._loop = [self._clock.mark()]
            return inner(*arguments, **options)

        setattr(owner, name, timed)

    def end_step(self) -> None:
        """A step of the loop is done."""
        self._loop.append(self._clock.mark())

    def _timed(self, inner: Callable[..., Any], stage: str) -> Callable[..., Any]:
        def timed(*arguments: Any, **options: Any) -> Any:  # noqa: ANN401
            with self._span(stage):
                return inner(*arguments, **options)

        return timed

    @contextmanager
    def _span(self, stage: str) -> Iterator[None]:
        if self._busy:
            yield
            return
        self._busy = True
        start = self._clock.mark()
        try:
            yield
        finally:
            self._busy = False
            self._spans.append((stage, start, self._clock.mark()))

    def steps(self) -> tuple[float, ...]:
        """Seconds of each step."""
        return tuple(
            self._clock.seconds(start, end) for start, end in zip(self._loop, self._loop[1:], strict=False)
        )

    def stages(self) -> dict[str, float]:
        """Seconds of each stage, all its calls together; "denoise" is the sum of the steps."""
        seconds: dict[str, float] = defaultdict(float)
        for stage, start, end in self._spans:
            seconds[stage] += self._clock.seconds(start, end)
        return {**seconds, "denoise": sum(self.steps())}
