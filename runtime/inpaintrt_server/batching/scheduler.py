"""The engine's thread: between any two steps requests leave and others join."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass

from inpaintrt.denoiser import nonfinite_error
from inpaintrt.errors import EngineError, EngineRunError, InpaintError
from inpaintrt_server.batching.chores import Chores
from inpaintrt_server.batching.faults import EngineStage, Faults
from inpaintrt_server.batching.groups import Group, Groups
from inpaintrt_server.batching.inbox import Inbox
from inpaintrt_server.batching.jobs import Stepped
from inpaintrt_server.batching.joining import Joining
from inpaintrt_server.batching.leavers import Leavers
from inpaintrt_server.batching.newcomers import Newcomers
from inpaintrt_server.batching.observing import Observer
from inpaintrt_server.batching.step_engine import StepEngine
from inpaintrt_server.batching.task import Task

__all__ = ["Counts", "Parts", "Scheduler"]

logger = logging.getLogger(__name__)

_NEWEST_STEP = 0.3


@dataclass
class Counts:
    """What other threads may read of the scheduler at any time; see `Snapshot`."""

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
    joining: Joining
    groups: Groups
    engine: StepEngine
    leavers: Leavers
    chores: Chores
    faults: Faults


class Scheduler:
    """Moves requests from stage to stage. All of it belongs to the engine's thread, but for `counts`.

    A turn: hear what other threads want, let go of requests that are over, fill free slots, do one step of
    one group, then encode newcomers and decode leavers for as long as a step takes. So steps get about half
    of the engine's time at least, and newcomers and leavers half of it if they need so much.

    Args:
        parts: What it moves requests through.
        observer: Hears of the steps.
    """

    def __init__(self, parts: Parts, observer: Observer) -> None:
        self._parts = parts
        self._observer = observer
        self._tasks: dict[Task, None] = {}
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
        parts = self._parts
        steps = len(parts.groups) and parts.joining.may_step
        if not (parts.chores or parts.newcomers.ready or steps):
            parts.inbox.wait(self._seconds_to_deadline())
        parts.inbox.run()
        self._let_go()
        parts.newcomers.call()
        parts.joining.fill()
        self._count()
        group = parts.groups.next() if parts.joining.may_step else None
        if group is not None:
            self._step(group)
        parts.chores.run(self._step_seconds if group is not None else 0.0)

    def end_all(self, error: Exception) -> None:
        """End every request with an error."""
        for task in self._tasks:
            task.fail(error)
        self._let_go()
        self._count()

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

    def _count(self) -> None:
        self.counts.active = self._parts.groups.active
        self.counts.groups = len(self._parts.groups)
        self.counts.queued = sum(1 for task in self._tasks if task.clock.entered is None)

    def _step(self, group: Group) -> None:
        started = time.perf_counter()
        rows = group.rows_now()
        try:
            finished = group.slots.step()
            spoilt = tuple(slot for slot in finished if not group.slots.finite(slot))
        except Exception as error:  # noqa: BLE001 - logged, and told to all in the step
            self._step_failed(group, error)
            return
        self._measure(time.perf_counter() - started, rows)
        self._parts.faults.succeeded("step")
        self._advance(group, finished, spoilt)
        self._count()
        if spoilt:
            self._parts.faults.check()

    def _step_failed(self, group: Group, error: Exception) -> None:
        """Fail whoever was in a step; the others, and the next, go on."""
        tasks = group.tasks()
        logger.error(
            "a step failed for %s", ", ".join(task.id for task in tasks), exc_info=error, extra=_ids(*tasks)
        )
        self._parts.groups.drop(group)
        for task in tasks:
            task.fail(_as_engine_error("the step failed", error))
        self._let_go()
        self._parts.faults.failed("step", error)

    def _measure(self, seconds: float, rows: int) -> None:
        weight = _NEWEST_STEP if self._step_seconds else 1.0
        self._step_seconds += weight * (seconds - self._step_seconds)
        bucket = self._parts.engine.bucket(rows)
        self.counts.steps += 1
        self.counts.rows += rows
        self.counts.padded_rows += bucket
        self._observer.step(seconds, rows, bucket)

    def _advance(self, group: Group, finished: tuple[int, ...], spoilt: tuple[int, ...]) -> None:
        """Note that the results of a group have done a step."""
        for slot in spoilt:
            self._drop_spoilt(group.seats[slot].task)
        before = {task: task.progress for task in group.tasks() if not task.over}
        for seat in group.seats.values():
            seat.task.done[seat.result] += 1
        for slot in set(finished).difference(spoilt):
            seat = group.seats[slot]
            seat.task.latents[seat.result] = group.leave(slot)
        for task, progress in before.items():
            if task.progress > progress:
                self._tell(task, group)
            if task.denoised:
                task.clock.leave()
                self._parts.leavers.finish(task)
        self._parts.groups.drop_ended()

    def _drop_spoilt(self, task: Task) -> None:
        logger.error("the network gives no finite values for %s", task.id, extra=_ids(task))
        task.fail(nonfinite_error())

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
        stage: EngineStage = "encode" if task.clock.entered is None else "decode"
        task.fail(_as_engine_error(f"{stage} failed", error))
        if isinstance(error, EngineError) or not isinstance(error, InpaintError):
            logger.error("%s failed for %s", stage, task.id, exc_info=error, extra=_ids(task))
            self._parts.faults.failed(stage, error)

    def chore_done(self, task: Task) -> None:
        """Note that encoding or decoding works."""
        self._parts.faults.succeeded("encode" if task.clock.entered is None else "decode")


def _ids(*tasks: Task) -> dict[str, object]:
    return {"job_ids": [task.id for task in tasks]}


def _as_engine_error(what: str, error: Exception) -> Exception:
    if isinstance(error, InpaintError):
        return error
    wrapped = EngineRunError(what, received=f"{type(error).__name__}: {error}")
    wrapped.__cause__ = error
    return wrapped
