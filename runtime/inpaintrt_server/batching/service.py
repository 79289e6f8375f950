"""The service: requests in, events out, one thread for the engines."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from threading import Thread
from types import TracebackType
from typing import Annotated, Self, TypeAlias

from msgspec import Meta

from inpaintrt.backends import UsesHostMemory
from inpaintrt.errors import ParameterError
from inpaintrt.loading import LoadedBundle
from inpaintrt.request import Request
from inpaintrt.stages import Stages
from inpaintrt.validation import checked
from inpaintrt_server.batching.admission import Admission, Permit
from inpaintrt_server.batching.engine import StepEngine
from inpaintrt_server.batching.events import (
    Cache,
    CommandQueue,
    EventQueue,
    Listener,
    NullObserver,
    Observer,
    Outcome,
)
from inpaintrt_server.batching.image_cache import ImageCache
from inpaintrt_server.batching.loras import NO_LORAS, LoraChoice, LoraFiles, LoraLibrary
from inpaintrt_server.batching.memory import MemoryBudget
from inpaintrt_server.batching.models import Model, Models
from inpaintrt_server.batching.scheduler import Mode, Scheduler
from inpaintrt_server.batching.task import Job, Task
from inpaintrt_server.errors import DrainingError, EngineLostError
from inpaintrt_server.host_memory import available_bytes

__all__ = ["BatchingService", "BatchingSettings", "Snapshot"]

logger = logging.getLogger(__name__)

_Positive: TypeAlias = Annotated[int, Meta(ge=1)]
_SHARE_OF_LORAS = 4


@dataclass(frozen=True)
class BatchingSettings:
    """How requests are batched.

    Args:
        slots: Results that are denoised at the same time.
        queue: Requests that may wait beside as many as there are slots; with more, new ones are refused.
        row_buckets: Numbers of UNet rows that a step is padded to. With None a step has just the rows that it
            needs, which is fastest where time grows with rows, as on CPUs.
        mode: "continuous" lets requests join between any two steps. For comparison, "whole-batches" lets them
            join only when all slots are empty, and "one-at-a-time" fills the slots from one request alone.
        workers: Threads that read images and put results into them.
        prompt_cache: Windows of prompts whose embeddings are kept.
        image_cache: Bytes of encoded images that are kept.
        memory_budget: Bytes that runs of the engines may take beside their weights, of all slots together;
            None for half of what the machine has.
        lora_memory: Bytes that models with LoRAs may take; None for what the largest LoRA alone needs, and on
            a CPU at least a quarter of what the machine has.
        faults: Failures of a stage in a row after which the engine counts as lost.

    Raises:
        ParameterError: A value is out of its range.
    """

    slots: int = 4
    queue: int = 64
    row_buckets: tuple[int, ...] | None = None
    mode: Mode = "continuous"
    workers: int = 2
    prompt_cache: int = 256
    image_cache: int = 64 * 2**20
    memory_budget: int | None = None
    lora_memory: int | None = None
    faults: int = 3

    def __post_init__(self) -> None:
        for name, minimum in (
            ("slots", 1),
            ("queue", 0),
            ("workers", 1),
            ("prompt_cache", 0),
            ("image_cache", 0),
            ("faults", 1),
        ):
            checked(name, getattr(self, name), Annotated[int, Meta(ge=minimum)])
        checked("memory_budget", self.memory_budget, _Positive | None)
        checked("lora_memory", self.lora_memory, _Positive | None)
        checked("row_buckets", self.row_buckets, Annotated[list[_Positive], Meta(min_length=1)] | None)
        checked("mode", self.mode, Mode)


@dataclass(frozen=True)
class Snapshot:
    """The state of the service at one moment.

    Attributes:
        slots: Results that are denoised at the same time, at most.
        active: Slots that are taken.
        groups: Models, image sizes and lengths of prompts among them.
        outstanding: Requests that hold a permit, from admission to their end.
        capacity: Permits there are.
        queued: Requests that were submitted and have no slot yet.
        ready: Requests are admitted and the engine is warm.
        draining: Nothing new is admitted.
        engine_lost: The engine failed for good; the process has to be started again.
        steps: Steps done since the start.
        rows: UNet rows in them.
        padded_rows: The same, padded to buckets.
        lora_models: Models with LoRAs that are in memory.
        lora_bytes: Bytes that they take.
        cache_hits: For each cache; embeddings of text encoders with LoRAs are not counted.
        cache_misses: The same.
    """

    slots: int
    capacity: int
    active: int = 0
    groups: int = 0
    outstanding: int = 0
    queued: int = 0
    ready: bool = False
    draining: bool = False
    engine_lost: bool = False
    steps: int = 0
    rows: int = 0
    padded_rows: int = 0
    lora_models: int = 0
    lora_bytes: int = 0
    cache_hits: Mapping[Cache, int] = field(default_factory=dict)
    cache_misses: Mapping[Cache, int] = field(default_factory=dict)


class BatchingService:
    """Serves requests with one bundle and its LoRAs, as many at a time as there are slots.

    Any thread may call any method. One thread of its own runs the engines; a few others read images and put
    results into them, and one loads models. The bundle's own engines stay open when the service is closed:
    they belong to the caller.

    Args:
        loaded: The bundle.
        settings: How requests are batched.
        loras: LoRA files by the name that requests choose them by. Each is loaded once before anything else.
        observer: Gets figures of what happens.

    Raises:
        EngineInputError: The engine was built for fewer slots.
        PlanError: The engines were built for sizes that have none in common, or there is no plan with a LoRA.
        LoraError: A LoRA cannot be read, or cannot be applied.
        ParameterError: The memory budget does not allow one result of the checkpoint's native size, or that
            of LoRAs not one of them.

    Attributes:
        settings: How requests are batched.
        stages: The bundle's stages.
        budget: What runs may take of the machine's memory.
        loras: The LoRAs that requests may choose.
    """

    def __init__(
        self,
        loaded: LoadedBundle,
        settings: BatchingSettings,
        *,
        loras: LoraFiles | None = None,
        observer: Observer | None = None,
    ) -> None:
        self.settings = settings
        self.stages = Stages(loaded, prompt_cache=settings.prompt_cache)
        available = available_bytes()
        self.budget = MemoryBudget(
            loaded.engines,
            settings.memory_budget,
            available=available,
            architecture=loaded.manifest.architecture,
        )
        self._observer = observer or NullObserver()
        self._admission = Admission(settings.slots + settings.queue, self._observer)
        self._commands = CommandQueue()
        self._pool = ThreadPoolExecutor(settings.workers, thread_name_prefix="inpaintrt-images")
        self._cache = ImageCache(settings.image_cache)
        self.loras = LoraLibrary(loaded, loras or {})
        self._base = Model(NO_LORAS, self.stages, self._step_engine(self.stages))
        self._loader = ThreadPoolExecutor(1, thread_name_prefix="inpaintrt-loader")
        self._models = self._make_models(available)
        self._scheduler = self._make_scheduler()
        self._thread = Thread(target=self._run, name="inpaintrt-engine", daemon=True)
        self._ready = self._stopping = False
        self._gone: Exception | None = None
        self._models.preload()

    def _step_engine(self, stages: Stages) -> StepEngine:
        settings, window = self.settings, stages.manifest.window
        return StepEngine(stages, slots=settings.slots, row_buckets=settings.row_buckets, tokens=window)

    def _make_models(self, available: int | None) -> Models:
        # On a GPU another thread must not allocate memory while launches are being recorded.
        on_host = isinstance(self.stages.engines["denoiser"], UsesHostMemory)
        limit = self.settings.lora_memory
        if limit is None:
            limit = max((available or 0) // _SHARE_OF_LORAS if on_host else 0, self.loras.largest)
        return Models(
            self._base,
            self.loras,
            make=self._make_model,
            limit=limit,
            commands=self._commands,
            pool=self._loader if on_host else None,
            observer=self._observer,
        )

    def _make_model(self, loras: LoraChoice, loaded: LoadedBundle) -> Model:
        """A model that shares the embeddings of prompts with the bundle where no text encoder is changed."""
        same = all(loaded.engines[name] is self.stages.engines[name] for name in loaded.tokenizers)
        prompts = self.stages.prompts if same else None
        stages = Stages(loaded, prompt_cache=self.settings.prompt_cache, prompts=prompts)
        return Model(loras, stages, self._step_engine(stages))

    def _make_scheduler(self) -> Scheduler:
        settings = self.settings
        return Scheduler(
            self._models,
            budget=self.budget,
            commands=self._commands,
            pool=self._pool,
            mode=settings.mode,
            ahead=settings.slots + settings.workers,
            fault_limit=settings.faults,
            observer=self._observer,
        )

    def start(self) -> None:
        """Start the threads; `snapshot.ready` says when the engine is warm. Requests may come before."""
        self._thread.start()

    def admit(self) -> Permit:
        """Take a permit for one request, before its body is read.

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
        loras: LoraChoice = NO_LORAS,
        deadline: float | None = None,
        preview_steps: int | Collection[int] = (),
    ) -> Job:
        """Submit a request.

        Args:
            permit: From `admit`; it is used up, whatever comes, unless an error is raised.
            request: What to paint; its images are read later, and what is wrong with them becomes `Failed`.
            listener: Gets its events.
            job_id: Names the request in logs.
            loras: From `self.loras.choose`.
            deadline: When it has to have done its steps, on the clock of `time.monotonic`; None for any time.
            preview_steps: Steps after which `Stepped` brings previews, or how many steps do, at about equal
                distances. Each costs a run of the VAE's decoder for each result. The last step brings none,
                since the result follows.

        Raises:
            InputError: The request cannot be served.
            InpaintError: The permit is used up, or from another service.
        """
        if request.options["output_type"] != "pil":
            raise ParameterError(
                "output_type is not for servers", received=request.options["output_type"], expected="'pil'"
            )
        task = Task(
            request,
            self._base,
            EventQueue(job_id, listener, self._pool, partial(self._ended, permit)),
            loras=loras,
            admitted=permit.taken_at,
            deadline=deadline,
            preview_steps=preview_steps,
            cache=self._cache,
            budget=self.budget,
            observer=self._observer,
        )
        permit.use(self._admission)
        self._observer.chosen(loras.names)
        self._commands.post(partial(self._scheduler.add, task))
        if self._gone is not None:
            task.fail(self._gone)
        return task

    def _ended(self, permit: Permit, outcome: Outcome) -> None:
        permit.end()
        self._observer.ended(outcome)
        self._commands.wake()

    def drain(self) -> None:
        """Admit nothing more; what was admitted goes on. Returns at once."""
        self._admission.drain()

    def wait_drained(self, timeout: float | None = None) -> bool:
        """Wait until no request is left; False if there is one after so many seconds."""
        return self._admission.wait_empty(timeout)

    def close(self) -> None:
        """Stop after the present step; requests that are not done fail with `DrainingError`."""
        self._admission.drain()
        self._stopping = True
        self._commands.wake()
        if self._thread.is_alive():
            self._thread.join()
        self._loader.shutdown()
        self._end(DrainingError("the server is stopping", hint="ask another one, or try again in a while"))
        self._pool.shutdown()
        self._models.close()

    def _end(self, error: Exception) -> None:
        """Fail every request; those that are submitted later fail because of `_gone`."""
        self._gone = self._gone or error
        self._commands.run()
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
            lora_models=self._models.count,
            lora_bytes=self._models.nbytes,
            cache_hits={"prompts": prompts.hits, "images": self._cache.hits},
            cache_misses={"prompts": prompts.misses, "images": self._cache.misses},
            **vars(counts),
        )

    def _run(self) -> None:
        """The engine's thread."""
        try:
            self._scheduler.faults.check()
            self._base.engine.warm_up()
            self._ready = True
            while not self._stopping:
                self._scheduler.tick()
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
