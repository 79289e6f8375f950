"""The engine's thread: between any two steps requests leave and others join."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from typing import Literal, TypeAlias

from inpaintrt.denoiser import nonfinite_error
from inpaintrt.errors import EngineError, EngineInputError, EngineRunError, InpaintError, ParameterError
from inpaintrt.flow import Stage
from inpaintrt_server.batching.background import BackgroundWork, OnError, Work
from inpaintrt_server.batching.engine import EngineStage, Faults, StepEngine
from inpaintrt_server.batching.events import CommandQueue, Observer
from inpaintrt_server.batching.groups import Group, Groups
from inpaintrt_server.batching.memory import MemoryBudget
from inpaintrt_server.batching.models import Models
from inpaintrt_server.batching.task import Task

__all__ = ["Counts", "Mode", "Scheduler"]

logger = logging.getLogger(__name__)

Mode: TypeAlias = Literal["continuous", "whole-batches", "one-at-a-time"]

_NEWEST_STEP = 0.3


class SlotAllocator:
    """Fills free slots.

    A slot goes to the request with the fewest results in slots, and among those to the first that was
    admitted; so a request of many results takes all slots when it is alone, and does not keep others out.

    Args:
        groups: The slots.
        mode: When they may be filled.
        on_error: Gets what the engine raises when a task is to join.
    """

    def __init__(self, groups: Groups, mode: Mode, on_error: OnError) -> None:
        self._groups = groups
        self._mode = mode
        self._on_error = on_error
        self._gathering = True

    @property
    def may_step(self) -> bool:
        """Whether those in the slots may go on; a whole batch waits until it is complete."""
        return self._mode != "whole-batches" or not self._gathering

    def fill(self, tasks: Iterable[Task]) -> None:
        """Assign slots to results of tasks that may join now."""
        if self._groups.active == 0:
            self._gathering = True
        room = True
        while room and (candidates := self._candidates(tasks)):
            room = self._assign(min(candidates, key=lambda task: (task.in_slots, task.admitted)))
        awaited = room and any(task.wants_slots or task.stage < Stage.READY for task in tasks)
        if self._groups.active > 0 and not awaited:
            self._gathering = False

    def _candidates(self, tasks: Iterable[Task]) -> list[Task]:
        ready = [task for task in tasks if task.wants_slots]
        if self._mode == "continuous" or (self._mode == "whole-batches" and self._gathering):
            return ready
        if self._mode == "one-at-a-time":
            started = [task for task in ready if task.stage is Stage.DENOISING]
            return started or (ready[:1] if self._groups.active == 0 else [])
        return []

    def _assign(self, task: Task) -> bool:
        """Assign a slot to the next result of a task; False if there is no room."""
        try:
            if not self._groups.join(task):
                return False
        except EngineInputError as error:
            task.fail(_as_refusal(error))
        except Exception as error:  # noqa: BLE001 - handed on
            self._on_error(task, "encode", error)
        else:
            if task.stage is Stage.READY:
                task.start()
        return True


def _as_refusal(error: EngineInputError) -> ParameterError:
    """What does not fit into an engine with nobody beside it cannot be served."""
    refusal = ParameterError(error.what, received=error.received, expected=error.expected, hint=error.hint)
    refusal.__cause__ = error
    return refusal


@dataclass
class Counts:
    """What other threads may read of the scheduler at any time; see `Snapshot`."""

    active: int = 0
    groups: int = 0
    queued: int = 0
    steps: int = 0
    rows: int = 0
    padded_rows: int = 0


class Scheduler:
    """Moves requests from stage to stage. All of it belongs to the engine's thread, but for `counts`.

    A tick: run the commands of other threads, drop requests that are over, give others their models and have
    them prepared, fill free slots, do one step of one group, then encode and decode for as long as a step
    takes. So steps get about half of the engine's time at least, and encoding and decoding half of it if they
    need so much.

    Args:
        models: What runs requests.
        budget: The memory that their steps may take.
        commands: From other threads.
        pool: Prepares images.
        mode: When requests may join.
        ahead: How many requests may be prepared and have no slot yet, since prepared images are large.
        fault_limit: Failures of a stage in a row after which the engine counts as lost.
        observer: Gets the figures of the steps.

    Attributes:
        faults: Knows whether the engine works.
        counts: The present state.
    """

    def __init__(
        self,
        models: Models,
        *,
        budget: MemoryBudget,
        commands: CommandQueue,
        pool: Executor,
        mode: Mode,
        ahead: int,
        fault_limit: int,
        observer: Observer,
    ) -> None:
        self._models = models
        self._commands = commands
        self._pool = pool
        self._ahead = ahead
        self._observer = observer
        engine = models.base.engine
        self.faults = Faults(engine.probe, fault_limit)
        self._groups = Groups(engine.slots, budget)
        self._allocator = SlotAllocator(self._groups, mode, self._fail)
        self._background = BackgroundWork(self.faults, self._fail)
        self._tasks: dict[Task, None] = {}
        self._step_seconds = 0.0
        self.counts = Counts()

    def add(self, task: Task) -> None:
        """Take a request in."""
        self._tasks[task] = None

    def tick(self) -> None:
        """Do what is next, or sleep until there is something to do.

        Raises:
            EngineLostError: The engine is gone.
        """
        if not self._busy():
            self._commands.wait(self._seconds_to_deadline())
        self._commands.run()
        self._drop_ended()
        self._assign_models()
        self._start_preparing()
        self._allocator.fill(self._tasks)
        self._count()
        group = self._groups.next() if self._allocator.may_step else None
        if group is not None:
            self._step(group)
        self._background.run(self._step_seconds if group is not None else 0.0)

    def end_all(self, error: Exception) -> None:
        """End every request with an error."""
        for task in self._tasks:
            task.fail(error)
        self._drop_ended()
        self._count()

    def _busy(self) -> bool:
        steps = len(self._groups) > 0 and self._allocator.may_step
        return bool(self._background) or steps or any(task.wants_slots for task in self._tasks)

    def _seconds_to_deadline(self) -> float | None:
        deadlines = [
            task.deadline
            for task in self._tasks
            if task.deadline is not None and not task.denoised and not task.over
        ]
        return max(min(deadlines) - time.monotonic(), 0.0) if deadlines else None

    def _drop_ended(self) -> None:
        """Drop requests that are over: cancelled, failed, late or finished.

        While a worker prepares the images of one, it still counts among those that are ahead.
        """
        now = time.monotonic()
        for task in self._tasks:
            task.check_deadline(now)
        if any(task.over for task in self._tasks):
            self._tasks = {
                task: None for task in self._tasks if not task.over or task.stage is Stage.PREPARING
            }
            self._background.drop_ended()
            self._groups.drop_ended()

    def _assign_models(self) -> None:
        """Give new requests their models, which may have to be loaded first."""
        wanted = {task.loras for task in self._tasks}
        for task in self._tasks:
            if task.has_model or task.over:
                continue
            try:
                model = self._models.find(task.loras, wanted)
            except InpaintError as error:
                task.fail(error)
            else:
                if model is not None:
                    task.use(model)
        self._models.forget_failures()

    def _start_preparing(self) -> None:
        waiting = [task for task in self._tasks if task.stage is Stage.WAITING and task.has_model]
        ahead = sum(1 for task in self._tasks if Stage.PREPARING <= task.stage <= Stage.READY)
        for task in waiting[: max(self._ahead - ahead, 0)]:
            task.enter(Stage.PREPARING)
            self._pool.submit(self._prepare, task)

    def _prepare(self, task: Task) -> None:
        """In a worker: images to tensors."""
        if not task.over:
            task.prepare()
        self._commands.post(partial(self._prepared, task))

    def _prepared(self, task: Task) -> None:
        if task.over:
            self._tasks.pop(task, None)
        else:
            self._background.preprocessing.append(Work(task, "encode", task.encode()))

    def _count(self) -> None:
        self.counts.active = self._groups.active
        self.counts.groups = len(self._groups)
        self.counts.queued = sum(1 for task in self._tasks if task.stage < Stage.DENOISING and not task.over)

    def _step(self, group: Group) -> None:
        started = time.perf_counter()
        rows = group.slots.row_counts
        before = {task: task.progress for task in group.tasks() if not task.over}
        try:
            nonfinite = group.step()
        except Exception as error:  # noqa: BLE001 - logged, and handed to all in the step
            self._step_failed(group, error)
            return
        self._measure(time.perf_counter() - started, rows, group.engine)
        self.faults.succeeded("step")
        for task in nonfinite:
            logger.error("the network gives no finite values for %s", task.id, extra=_ids(task))
            task.fail(nonfinite_error())
        for task, progress in before.items():
            self._report(task, group, progressed=task.progress > progress)
        self._groups.drop_ended()
        self._count()
        if nonfinite:
            self.faults.check()

    def _step_failed(self, group: Group, error: Exception) -> None:
        """Fail whoever was in a step; the others, and the next, go on."""
        tasks = group.tasks()
        logger.error(
            "a step failed for %s", ", ".join(task.id for task in tasks), exc_info=error, extra=_ids(*tasks)
        )
        for task in tasks:
            task.fail(_as_engine_error("the step failed", error))
        self._groups.drop(group)
        self._drop_ended()
        self.faults.failed("step", error)

    def _measure(self, seconds: float, row_counts: Sequence[int], engine: StepEngine) -> None:
        weight = _NEWEST_STEP if self._step_seconds else 1.0
        self._step_seconds += weight * (seconds - self._step_seconds)
        rows, padded = sum(row_counts), sum(map(engine.bucket, row_counts))
        self.counts.steps += 1
        self.counts.rows += rows
        self.counts.padded_rows += padded
        self._observer.step(seconds, rows, padded)

    def _report(self, task: Task, group: Group, *, progressed: bool) -> None:
        """Tell a task's listener of a step, and have the results decoded after the last."""
        if task.over:
            return
        postprocessing = self._background.postprocessing
        if progressed and task.wants_preview:
            postprocessing.append(Work(task, "decode", task.send_preview(group.estimates(task))))
        elif progressed:
            task.send_step()
        if task.denoised:
            postprocessing.append(Work(task, "decode", task.send_results()))

    def _fail(self, task: Task, stage: EngineStage, error: Exception) -> None:
        """Fail the one request whose encoding or decoding went wrong.

        Raises:
            EngineLostError: The engine is gone.
        """
        task.fail(_as_engine_error(f"{stage} failed", error))
        if isinstance(error, EngineError) or not isinstance(error, InpaintError):
            logger.error("%s failed for %s", stage, task.id, exc_info=error, extra=_ids(task))
            self.faults.failed(stage, error)


def _ids(*tasks: Task) -> dict[str, object]:
    return {"job_ids": [task.id for task in tasks]}


def _as_engine_error(what: str, error: Exception) -> Exception:
    if isinstance(error, InpaintError):
        return error
    wrapped = EngineRunError(what, received=f"{type(error).__name__}: {error}")
    wrapped.__cause__ = error
    return wrapped
