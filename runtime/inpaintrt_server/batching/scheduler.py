"""The engine's thread: between any two steps requests leave and others join."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass

import numpy as np

from inpaintrt.errors import EngineError, EngineInputError, EngineRunError, InpaintError
from inpaintrt_server.batching.chores import Chores
from inpaintrt_server.batching.faults import EngineStage, Faults
from inpaintrt_server.batching.groups import Group, Groups, Seat
from inpaintrt_server.batching.inbox import Inbox
from inpaintrt_server.batching.jobs import Started, Stepped
from inpaintrt_server.batching.leavers import Leavers
from inpaintrt_server.batching.newcomers import Newcomers
from inpaintrt_server.batching.observing import Observer
from inpaintrt_server.batching.settings import Mode
from inpaintrt_server.batching.task import Task

__all__ = ["Counts", "Parts", "Scheduler"]

logger = logging.getLogger(__name__)

_NEWEST_STEP = 0.3


@dataclass
class Counts:
    """What other threads may read of the scheduler at any time."""

    active: int = 0
    groups: int = 0
    queued: int = 0
    steps: int = 0
    rows: int = 0
    padded_rows: int = 0


@dataclass(frozen=True)
class Parts:
    """What the scheduler moves requests through."""

    inbox: Inbox
    newcomers: Newcomers
    groups: Groups
    leavers: Leavers
    chores: Chores
    faults: Faults


class Scheduler:
    """Moves requests from stage to stage. All of it belongs to the engine's thread, but for `counts`.

    A turn: hear what other threads want, let go of requests that are over, fill free slots, do one step of
    one group, then encode newcomers and decode leavers for as long as a step takes. So steps get about half
    of the engine's time at least, and newcomers and leavers half of it if they need so much.
    """

    def __init__(self, parts: Parts, mode: Mode, buckets: tuple[int, ...] | None, observer: Observer) -> None:
        self._parts = parts
        self._mode = mode
        self._buckets = buckets
        self._observer = observer
        self._tasks: dict[Task, None] = {}
        self._open = True
        self._step_seconds = 0.0
        self.counts = Counts()

    def add(self, task: Task) -> None:
        """Take a request in."""
        self._tasks[task] = None
        self._parts.newcomers.add(task)

    def turn(self) -> None:
        """Do what is next, or sleep until there is something to do.

        Raises:
            EngineLostError: The engine is gone.
        """
        if not self._busy():
            self._parts.inbox.wait(self._seconds_to_deadline())
        self._parts.inbox.run()
        self._let_go()
        self._parts.newcomers.call()
        self._fill()
        group = self._parts.groups.next() if self._may_step() else None
        if group is not None:
            self._step(group)
        self._parts.chores.run(self._step_seconds if group is not None else 0.0)
        self._count()

    def fail_all(self, error: Exception) -> None:
        """End every request."""
        for task in self._tasks:
            task.fail(error)
        self._let_go()
        self._count()

    def _busy(self) -> bool:
        return bool(self._parts.chores or self._parts.newcomers.ready or len(self._parts.groups))

    def _seconds_to_deadline(self) -> float | None:
        deadlines = [task.deadline for task in self._tasks if task.deadline is not None and not task.denoised]
        return max(min(deadlines) - time.monotonic(), 0.0) if deadlines else None

    def _let_go(self) -> None:
        """Forget requests that are over: cancelled, failed, late or finished."""
        now = time.monotonic()
        for task in self._tasks:
            task.check_deadline(now)
        if any(task.over for task in self._tasks):
            self._tasks = {task: None for task in self._tasks if not task.over}
            self._parts.newcomers.drop_ended()
            self._parts.groups.drop_ended()

    def _fill(self) -> None:
        """Seat waiting results: of those requests first that have the fewest seats, then of the oldest."""
        self._open = self._may_open()
        while self._open and self._parts.newcomers.ready:
            task = min(self._parts.newcomers.ready, key=lambda task: task.seated)
            if not self._seat(task):
                break
            if not task.waiting:
                self._parts.newcomers.ready.remove(task)
        if self._mode != "continuous" and self._gathered():
            self._open = False

    def _may_open(self) -> bool:
        """Whether requests may join now."""
        return self._mode == "continuous" or self._open or self._parts.groups.active == 0

    def _gathered(self) -> bool:
        """Whether a whole batch is together: no more fit, or there are no more."""
        full = self._parts.groups.active >= self._parts.groups.capacity
        waits = bool(self._parts.newcomers.ready or self._parts.newcomers.coming)
        return self._parts.groups.active > 0 and (full or not waits or self._mode == "one-at-a-time")

    def _may_step(self) -> bool:
        return self._mode == "continuous" or not self._open

    def _seat(self, task: Task) -> bool:
        begins = task.clock.entered is None
        try:
            seated = self._parts.groups.join(Seat(task, task.waiting[0]))
        except InpaintError as error:
            task.fail(error)
            self._let_go()
            return True
        if seated:
            task.waiting.popleft()
            if begins:
                task.mailbox.put(Started(task.table.rows))
        return seated

    def _step(self, group: Group) -> None:
        started = time.perf_counter()
        rows = group.rows_now()
        try:
            finished = group.slots.step()
            self._check_estimates(group)
        except Exception as error:  # noqa: BLE001 - logged, and told to all in the step
            self._step_failed(group, error)
            return
        seconds = time.perf_counter() - started
        self._parts.faults.succeeded("step")
        self._measure(seconds, rows)
        self._after_step(group, finished)

    def _check_estimates(self, group: Group) -> None:
        if not all(np.isfinite(group.slots.denoised(slot)).all() for slot in group.seats):
            raise EngineRunError("the network gave NaN or infinite values")

    def _step_failed(self, group: Group, error: Exception) -> None:
        tasks = group.tasks()
        logger.error("a step failed", exc_info=error, extra={"job_ids": [task.id for task in tasks]})
        self._parts.groups.drop(group)
        for task in tasks:
            task.fail(_as_engine_error("the step failed", error))
        self._let_go()
        self._parts.faults.failed("step", error)

    def _measure(self, seconds: float, rows: int) -> None:
        bucket = next((each for each in sorted(self._buckets or ()) if each >= rows), rows)
        if self._step_seconds == 0.0:
            self._step_seconds = seconds
        self._step_seconds += _NEWEST_STEP * (seconds - self._step_seconds)
        self.counts.steps += 1
        self.counts.rows += rows
        self.counts.padded_rows += bucket
        self._observer.step(seconds, rows, bucket)

    def _after_step(self, group: Group, finished: tuple[int, ...]) -> None:
        before = {task: task.progress for task in group.tasks()}
        for seat in group.seats.values():
            seat.task.done[seat.result] += 1
        for slot in finished:
            seat = group.seats[slot]
            seat.task.latents[seat.result] = group.leave(slot)
        for task, progress in before.items():
            if task.progress > progress:
                self._tell(task, group)
            if task.denoised:
                task.clock.leave()
                self._parts.leavers.finish(task)
        self._parts.groups.drop_ended()

    def _tell(self, task: Task, group: Group) -> None:
        index, total = task.progress, task.table.rows
        if index not in task.preview_steps or index == total:
            task.mailbox.put(Stepped(index, total))
            return
        estimates = dict(task.latents)
        for slot, seat in group.seats.items():
            if seat.task is task:
                estimates[seat.result] = group.slots.denoised(slot)
        self._parts.leavers.preview(task, estimates)

    def chore_failed(self, task: Task, error: Exception) -> None:
        """Fail the one request whose encoding or decoding went wrong.

        Raises:
            EngineLostError: The engine is gone.
        """
        stage: EngineStage = "decode" if task.denoised else "encode"
        task.fail(_as_engine_error(f"the stage {stage!r} failed", error))
        if isinstance(error, EngineError) and not isinstance(error, EngineInputError):
            logger.error("%s failed", stage, exc_info=error, extra={"job_ids": [task.id]})
            self._parts.faults.failed(stage, error)

    def _count(self) -> None:
        self.counts.active = self._parts.groups.active
        self.counts.groups = len(self._parts.groups)
        self.counts.queued = sum(1 for task in self._tasks if task.clock.entered is None)


def _as_engine_error(what: str, error: Exception) -> Exception:
    if isinstance(error, InpaintError):
        return error
    wrapped = EngineRunError(what, received=f"{type(error).__name__}: {error}")
    wrapped.__cause__ = error
    return wrapped
