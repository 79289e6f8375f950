"""What the engine's thread does between steps, in pieces that are short beside a step."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import NamedTuple

from inpaintrt_server.batching.task import Task

__all__ = ["Chore", "Chores"]


class Chore(NamedTuple):
    """Work for a task: every `next` does a piece, such as one run of an engine.

    Attributes:
        task: Whose work it is.
        pieces: The work.
    """

    task: Task
    pieces: Iterator[None]


class Chores:
    """Two lanes of work, for newcomers and leavers, served in turn, each first come, first served.

    Args:
        on_done: Told when a task's work is done.
        on_error: Told of what a piece raises; the rest of its work is dropped.
    """

    def __init__(
        self, *, on_done: Callable[[Task], None], on_error: Callable[[Task, Exception], None]
    ) -> None:
        self._on_done = on_done
        self._on_error = on_error
        self.newcomers: deque[Chore] = deque()
        self.leavers: deque[Chore] = deque()
        self._leavers_next = True

    def __bool__(self) -> bool:
        return bool(self.newcomers or self.leavers)

    def run(self, seconds: float) -> None:
        """Do pieces for some time: one at least, and no new one once the time is over."""
        ends = time.monotonic() + seconds
        while self and self._piece() and time.monotonic() < ends:
            pass

    def _piece(self) -> bool:
        """Do one piece; False if there was none."""
        lanes = (self.leavers, self.newcomers) if self._leavers_next else (self.newcomers, self.leavers)
        self._leavers_next = not self._leavers_next
        for lane in lanes:
            while lane:
                if self._advance(lane):
                    return True
        return False

    def _advance(self, lane: deque[Chore]) -> bool:
        """Do a piece of a lane's first work, which leaves when done; False if nobody wants it any more."""
        task, pieces = lane[0]
        if task.over:
            lane.popleft()
            return False
        try:
            next(pieces)
        except StopIteration:
            lane.popleft()
            self._on_done(task)
        except Exception as error:  # noqa: BLE001 - handed on
            lane.popleft()
            self._on_error(task, error)
        return True
