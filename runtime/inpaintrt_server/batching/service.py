"""The service: requests in, events out, one thread for the engines."""

from __future__ import annotations

import logging
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Thread
from types import TracebackType
from typing import Self

from inpaintrt.errors import InpaintError, ParameterError
from inpaintrt.loading import LoadedBundle
from inpaintrt.request import Request
from inpaintrt.stages import Stages
from inpaintrt_server.batching.admission import Admission, Place
from inpaintrt_server.batching.chores import Chores
from inpaintrt_server.batching.faults import Faults
from inpaintrt_server.batching.groups import Groups
from inpaintrt_server.batching.inbox import Inbox
from inpaintrt_server.batching.jobs import Job, Listener, Permit
from inpaintrt_server.batching.joining import Joining
from inpaintrt_server.batching.leavers import Leavers
from inpaintrt_server.batching.mailbox import Mailbox
from inpaintrt_server.batching.memory import MemoryBudget
from inpaintrt_server.batching.newcomers import Newcomers
from inpaintrt_server.batching.observing import Ending, Observer, Silent, Snapshot
from inpaintrt_server.batching.pictures import PictureCache
from inpaintrt_server.batching.scheduler import Parts, Scheduler
from inpaintrt_server.batching.settings import BatchingSettings
from inpaintrt_server.batching.step_engine import StepEngine
from inpaintrt_server.batching.task import Clock, Task
from inpaintrt_server.errors import DrainingError, EngineLostError
from inpaintrt_server.host_memory import available_bytes

__all__ = ["BatchingService"]

logger = logging.getLogger(__name__)


class BatchingService:
    """Serves requests with one bundle, as many at a time as there are slots.

    Any thread may call any method. One thread of its own runs the engines; a few others read pictures and put
    results into them. The engines stay open when the service is closed: they belong to the caller.

    Args:
        loaded: The bundle.
        settings: How requests are batched.
        observer: Hears what happens.

    Raises:
        EngineInputError: The engine was built for fewer slots.
        PlanError: The engines were built for sizes that have none in common.
        ParameterError: The memory budget does not allow one result of the checkpoint's native size.

    Attributes:
        settings: How requests are batched.
        stages: The bundle's stages.
        budget: What runs may take of the machine's memory.
    """

    def __init__(
        self, loaded: LoadedBundle, settings: BatchingSettings, *, observer: Observer | None = None
    ) -> None:
        self.settings = settings
        self.stages = Stages(loaded, prompt_cache=settings.prompt_cache)
        self._observer = observer or Silent()
        self._admission = Admission(settings.slots + settings.queue, self._observer)
        self._inbox = Inbox()
        self._pool = ThreadPoolExecutor(settings.workers, thread_name_prefix="inpaintrt-pictures")
        self._pictures = PictureCache(settings.picture_cache)
        self.budget = MemoryBudget(
            loaded.engines,
            settings.memory_budget,
            available=available_bytes(),
            architecture=loaded.manifest.architecture,
        )
        engine = StepEngine(self.stages, settings, tokens=loaded.tokenizer.max_length)
        self._faults = Faults(engine.probe, settings.faults)
        self._scheduler = self._make_scheduler(engine)
        self._thread = Thread(target=self._run, name="inpaintrt-engine", daemon=True)
        self._ready = self._stopping = False
        self._gone: Exception | None = None

    def _make_scheduler(self, engine: StepEngine) -> Scheduler:
        settings = self.settings
        chores = Chores(
            on_done=lambda task: self._scheduler.chore_done(task),
            on_error=lambda task, error: self._scheduler.chore_failed(task, error),
        )
        newcomers = Newcomers(
            self.stages,
            self._pictures,
            chores,
            pool=self._pool,
            post=self._inbox.post,
            ahead=settings.slots + settings.workers,
            observer=self._observer,
            budget=self.budget,
        )
        groups = Groups(engine, self.budget)
        joining = Joining(
            newcomers,
            groups,
            settings.mode,
            on_error=lambda task, error: self._scheduler.chore_failed(task, error),
        )
        leavers = Leavers(self.stages, chores, self._observer)
        parts = Parts(self._inbox, newcomers, joining, groups, engine, leavers, chores, self._faults)
        return Scheduler(parts, self._observer)

    def start(self) -> None:
        """Start the threads; `snapshot.ready` says when the engine is warm. Requests may come before."""
        self._thread.start()

    def admit(self) -> Permit:
        """Take a place in the queue, before a request's body is read.

        Raises:
            QueueFullError: There is none.
            DrainingError: The service is stopping.
            EngineLostError: The engine failed for good.
        """
        return self._admission.admit()

    def submit(
        self,
        permit: Permit,
        request: Request,
        listener: Listener,
        *,
        job_id: str,
        deadline: float | None = None,
        preview_steps: Collection[int] = (),
    ) -> Job:
        """Hand a request in.

        Args:
            permit: The place that `admit` gave; it is used up, whatever comes, unless an error is raised.
            request: What to paint; its pictures are read later, and what is wrong with them becomes `Failed`.
            listener: Hears of it.
            job_id: Names the request in logs.
            deadline: When it has to have done its steps, on the clock of `time.monotonic`; None for any time.
            preview_steps: Steps after which `Stepped` brings previews. Each costs a run of the VAE's decoder
                for each result. The last step brings none, since the result follows.

        Raises:
            InputError: The request cannot be served.
            InpaintError: The permit is used up, or from another service.
        """
        table = self.stages.compile(request)
        if request.options["output_type"] != "pil":
            raise ParameterError(
                "output_type is not for servers", received=request.options["output_type"], expected="'pil'"
            )
        if not isinstance(permit, Place):
            raise InpaintError(
                "this is no permit of the service", received=type(permit).__name__, expected="what admit gave"
            )
        permit.use()
        mailbox = Mailbox(job_id, listener, self._pool, partial(self._ended, permit))
        clock = Clock(permit.taken_at)
        task = Task(job_id, request, table, mailbox, clock, deadline=deadline, preview_steps=preview_steps)
        self._inbox.post(lambda: self._scheduler.add(task))
        if self._gone is not None:
            task.fail(self._gone)
        return task

    def _ended(self, place: Place, how: Ending) -> None:
        place.end()
        self._observer.ended(how)
        self._inbox.wake()

    def drain(self) -> None:
        """Take nothing new in; what was admitted goes on. Returns at once."""
        self._admission.drain()

    def wait_drained(self, timeout: float | None = None) -> bool:
        """Wait until no request is left; False if there is one after so many seconds."""
        return self._admission.wait_empty(timeout)

    def close(self) -> None:
        """Stop after the present step; requests that are not done fail with `DrainingError`."""
        self._admission.drain()
        self._stopping = True
        self._inbox.wake()
        if self._thread.is_alive():
            self._thread.join()
        self._end(DrainingError("the server is stopping", hint="ask another one, or try again in a while"))
        self._pool.shutdown()

    def _end(self, error: Exception) -> None:
        """Fail every request; whoever hands one in later sees `_gone` and fails it too."""
        self._gone = self._gone or error
        self._inbox.run()
        self._scheduler.end_all(error)

    @property
    def snapshot(self) -> Snapshot:
        """The present state."""
        counts, prompts = self._scheduler.counts, self.stages.prompts
        draining, lost = self._admission.draining, self._admission.lost
        return Snapshot(
            slots=self.settings.slots,
            capacity=self._admission.capacity,
            outstanding=self._admission.outstanding,
            ready=self._ready and not draining and not lost,
            draining=draining,
            engine_lost=lost,
            cache_hits={"prompts": prompts.hits, "pictures": self._pictures.hits},
            cache_misses={"prompts": prompts.misses, "pictures": self._pictures.misses},
            **vars(counts),
        )

    def _run(self) -> None:
        """The engine's thread."""
        try:
            self._faults.check()
            self._ready = True
            while not self._stopping:
                self._scheduler.turn()
        except EngineLostError as error:
            self._lose(error)
        except Exception as error:
            logger.exception("the engine's thread failed")
            self._lose(EngineLostError("the server failed", received=f"{type(error).__name__}: {error}"))

    def _lose(self, error: EngineLostError) -> None:
        logger.critical("%s", error)
        self._admission.lose(error)
        self._end(error)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
