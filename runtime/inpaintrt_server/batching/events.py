"""What happens to a request, told to its listener; and what the service does, told to its observer."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from threading import RLock
from typing import Literal, Protocol, TypeAlias

from PIL import Image

__all__ = [
    "Cache",
    "CommandQueue",
    "Event",
    "EventQueue",
    "Failed",
    "Finished",
    "JobTimings",
    "Listener",
    "NullObserver",
    "Observer",
    "Outcome",
    "PendingEvent",
    "Refusal",
    "Started",
    "Stepped",
    "TimingName",
]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class JobTimings:
    """Where a request's time went, in seconds.

    Attributes:
        queue: From admission to the first slot, less what preparing and encoding took.
        prepare: Reading and fitting images and masks.
        encode: Prompts and images, on the engines.
        denoise: From the first step to the last.
        decode: Latents to images, on the engine.
        paste: Putting results into their images.
        total: From admission to the result.
        steps: Steps of the sampler.
    """

    queue: float = 0.0
    prepare: float = 0.0
    encode: float = 0.0
    denoise: float = 0.0
    decode: float = 0.0
    paste: float = 0.0
    total: float = 0.0
    steps: int = 0


@dataclass(frozen=True)
class Started:
    """The request has a slot, and its first step comes next.

    Attributes:
        total: Steps that it will take.
    """

    total: int


@dataclass(frozen=True)
class Stepped:
    """One more step is done.

    Attributes:
        index: Steps that are done.
        total: Steps there are.
        previews: The present estimate of each result, at the steps that the caller asked for; else empty.
        exact: Whether what decodes the results has decoded the previews, rather than a faster VAE.
    """

    index: int
    total: int
    previews: tuple[Image.Image, ...] = ()
    exact: bool = False


@dataclass(frozen=True)
class Finished:
    """The last event of a request that went well.

    Attributes:
        images: The results.
        seeds: The seed of each result.
        warnings: What the caller should know.
        timings: Where the time went.
    """

    images: tuple[Image.Image, ...]
    seeds: tuple[int, ...]
    warnings: tuple[str, ...] = ()
    timings: JobTimings = field(default_factory=JobTimings)


@dataclass(frozen=True)
class Failed:
    """The last event of a request that did not.

    Attributes:
        error: Why: an `InputError`, an `EngineError`, or one of `inpaintrt_server.errors`.
    """

    error: Exception


Event: TypeAlias = "Started | Stepped | Finished | Failed"

Listener: TypeAlias = Callable[[Event], None]
"""Called by the server's threads for each event in order; it must return at once and never raise."""

MakeEvent: TypeAlias = Callable[[], Event]
Outcome: TypeAlias = Literal["finished", "failed", "cancelled"]
TimingName: TypeAlias = Literal["queue", "prepare", "encode", "denoise", "decode", "paste", "total"]
Cache: TypeAlias = Literal["prompts", "images"]
Refusal: TypeAlias = Literal["queue_full", "draining", "engine_lost"]


class PendingEvent:
    """A position in the order of events, whose event is made later."""

    def __init__(self) -> None:
        self.make: MakeEvent | None = None


class EventQueue:
    """Hands events to a listener in order, from whichever thread they come; after the last it drops them.

    The lock is held while the listener runs, so that no event is delivered once `close` has returned; it is
    re-entrant, since a listener may cancel its own request. No other lock is taken meanwhile but the
    listener's own, and those of `on_end`, which hold none of ours.

    Args:
        job_id: Names the request in logs.
        listener: Gets the events.
        pool: Makes events that take a while, such as those with images.
        on_end: Called once, after the last event.

    Attributes:
        job_id: Names the request in logs.
        closed: Whether the last event was delivered or the request was cancelled.
    """

    def __init__(
        self, job_id: str, listener: Listener, pool: Executor, on_end: Callable[[Outcome], None]
    ) -> None:
        self.job_id = job_id
        self._listener = listener
        self._pool = pool
        self._on_end = on_end
        self._pending: deque[PendingEvent] = deque()
        self._delivering = False
        self._lock = RLock()
        self.closed = False

    def put(self, event: Event) -> None:
        """Deliver an event after those before it; at once if there are none."""
        with self._lock:
            if not self._pending and not self._delivering:
                self._deliver(event)
                return
        self.fill(self.reserve(), lambda: event)

    def reserve(self) -> PendingEvent:
        """Reserve a position in the order; later events wait until it is filled."""
        pending = PendingEvent()
        with self._lock:
            if not self.closed:
                self._pending.append(pending)
        return pending

    def fill(self, pending: PendingEvent, make: MakeEvent) -> None:
        """Have the event of a reserved position made by the pool; what `make` raises becomes `Failed`."""
        with self._lock:
            pending.make = make
            first = self._pending[0] if self._pending else None
            if not self.closed and not self._delivering and first is not None and first.make is not None:
                self._delivering = True
                self._pool.submit(self._deliver_pending)

    def fail(self, error: Exception) -> None:
        """End with an error at once; events that are not yet made are dropped."""
        with self._lock:
            self._pending.clear()
            self._deliver(Failed(error))

    def close(self) -> None:
        """Cancel: deliver nothing more."""
        self._end("cancelled")

    def _deliver_pending(self) -> None:
        while (make := self._next()) is not None:
            try:
                event = make()
            except Exception as error:  # noqa: BLE001 - logged, and handed on
                self._log("an event could not be made")
                event = Failed(error)
            with self._lock:
                self._deliver(event)

    def _next(self) -> MakeEvent | None:
        with self._lock:
            if not self._pending or self._pending[0].make is None:
                self._delivering = False
                return None
            return self._pending.popleft().make

    def _deliver(self, event: Event) -> None:
        if self.closed:
            return
        try:
            self._listener(event)
        except Exception:  # noqa: BLE001 - logged
            self._log("a listener raised, so its request is cancelled")
            self._end("cancelled")
        if isinstance(event, Finished | Failed):
            self._end("finished" if isinstance(event, Finished) else "failed")

    def _log(self, what: str) -> None:
        logger.exception("%s: %s", self.job_id, what, extra={"job_ids": [self.job_id]})

    def _end(self, outcome: Outcome) -> None:
        with self._lock:
            if self.closed:
                return
            self.closed = True
            self._pending.clear()
            self._listener = _ignore
        self._on_end(outcome)


def _ignore(event: Event) -> None:
    """Replaces a listener, which usually holds the request: both would wait for a garbage collection."""


class Observer(Protocol):
    """Gets figures of the service. Several threads call its methods, which return at once and never raise."""

    def step(self, seconds: float, rows: int, bucket: int) -> None:
        """A step is done: how long it took, its rows, and how many they were padded to."""
        ...

    def stage(self, name: TimingName, seconds: float) -> None:
        """What a stage of a finished request took."""
        ...

    def refused(self, reason: Refusal) -> None:
        """A request was not admitted."""
        ...

    def cache(self, name: Cache, *, hit: bool) -> None:
        """Something was looked up."""
        ...

    def ended(self, outcome: Outcome) -> None:
        """A request has ended."""
        ...

    def chosen(self, loras: Sequence[str]) -> None:
        """A request that chooses these LoRAs, by the names that the server has for them, was submitted."""
        ...

    def loaded(self, loras: Sequence[str], seconds: float) -> None:
        """A model with these LoRAs was loaded."""
        ...

    def dropped(self, loras: Sequence[str]) -> None:
        """A model with these LoRAs has left the memory to make room for another."""
        ...


class NullObserver:
    """Does nothing."""

    def step(self, seconds: float, rows: int, bucket: int) -> None:
        """Do nothing."""

    def stage(self, name: TimingName, seconds: float) -> None:
        """Do nothing."""

    def refused(self, reason: Refusal) -> None:
        """Do nothing."""

    def cache(self, name: Cache, *, hit: bool) -> None:
        """Do nothing."""

    def ended(self, outcome: Outcome) -> None:
        """Do nothing."""

    def chosen(self, loras: Sequence[str]) -> None:
        """Do nothing."""

    def loaded(self, loras: Sequence[str], seconds: float) -> None:
        """Do nothing."""

    def dropped(self, loras: Sequence[str]) -> None:
        """Do nothing."""


class CommandQueue:
    """Commands that wait for the engine's thread. Any thread may post; posting never blocks."""

    def __init__(self) -> None:
        self._commands: SimpleQueue[Callable[[], None]] = SimpleQueue()

    def post(self, command: Callable[[], None]) -> None:
        """Have something called by the engine's thread."""
        self._commands.put(command)

    def wake(self) -> None:
        """Have the engine's thread do a tick."""
        self._commands.put(_nothing)

    def run(self) -> None:
        """Run the commands that wait."""
        with suppress(Empty):
            while True:
                self._commands.get_nowait()()

    def wait(self, seconds: float | None) -> None:
        """Sleep until there is a command, or the time is over, and run it."""
        with suppress(Empty):
            self._commands.get(timeout=seconds)()


def _nothing() -> None:
    """Only wakes."""
