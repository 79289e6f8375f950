"""What other threads ask the engine's thread to do."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue

__all__ = ["Inbox"]

Call = Callable[[], None]


class Inbox:
    """Calls that wait for the engine's thread. Any thread may post; posting never blocks."""

    def __init__(self) -> None:
        self._calls: SimpleQueue[Call] = SimpleQueue()

    def post(self, call: Call) -> None:
        """Have something called by the engine's thread."""
        self._calls.put(call)

    def wake(self) -> None:
        """Have the engine's thread look around."""
        self._calls.put(_nothing)

    def run(self) -> None:
        """Make the calls that wait."""
        with suppress(Empty):
            while True:
                self._calls.get_nowait()()

    def wait(self, seconds: float | None) -> None:
        """Sleep until there is a call, or the time is over, and make it."""
        with suppress(Empty):
            self._calls.get(timeout=seconds)()


def _nothing() -> None:
    """Only wakes."""
