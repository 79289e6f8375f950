"""What the engine's thread does between steps: encoding and decoding, in pieces."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeAlias

from inpaintrt_server.batching.engine import EngineStage, Faults
from inpaintrt_server.batching.task import Task

__all__ = ["BackgroundWork", "OnError", "Work"]

OnError: TypeAlias = Callable[[Task, EngineStage, Exception], None]


class Work(NamedTuple):
    """Work of the engine for a task; each `next` of `pieces` is short beside a step."""

    task: Task
    stage: EngineStage
    pieces: Iterator[None]


class BackgroundWork:
    """Two lanes of work, served alternately, first come, first served.

    Args:
        faults: Counts what works.
        on_error: Gets what a piece raises; the rest of its work is dropped.

    Attributes:
        preprocessing: Encoding of prompts and images.
        postprocessing: Decoding of results and previews.
    """

    def __init__(self, faults: Faults, on_error: OnError) -> None:
        self._faults = faults
        self._on_error = on_error
        self.preprocessing: deque[Work] = deque()
        self.postprocessing: deque[Work] = deque()
        self._postprocessing_next = True

    def __bool__(self) -> bool:
        return bool(self.preprocessing or self.postprocessing)

    def run(self, seconds: float) -> None:
        """Do pieces for some time: one at least, and no new one once the time is over."""
        ends = time.monotonic() + seconds
        while self and self._piece() and time.monotonic() < ends:
            pass

    def drop_ended(self) -> None:
        """Drop the work of requests that are over."""
        for lane in (self.preprocessing, self.postprocessing):
            kept = [work for work in lane if not work.task.over]
            lane.clear()
            lane.extend(kept)

    def _piece(self) -> bool:
        """Do one piece; False if there was none."""
        lanes = [self.preprocessing, self.postprocessing]
        if self._postprocessing_next:
            lanes.reverse()
        self._postprocessing_next = not self._postprocessing_next
        for lane in lanes:
            while lane:
                if self._advance(lane):
                    return True
        return False

    def _advance(self, lane: deque[Work]) -> bool:
        """Do a piece of a lane's first work, which leaves when done; False if its request is over."""
        task, stage, pieces = lane[0]
        if task.over:
            lane.popleft()
            return False
        try:
            next(pieces)
        except StopIteration:
            lane.popleft()
            self._faults.succeeded(stage)
        except Exception as error:  # noqa: BLE001 - handed on
            lane.popleft()
            self._on_error(task, stage, error)
        return True
