"""A request on its way from admission to its last event."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from inpaintrt.denoiser import Entry
from inpaintrt.images import Prepared
from inpaintrt.request import Request
from inpaintrt.samplers import Table
from inpaintrt.stages import Contexts
from inpaintrt_server.batching.jobs import JobTimings
from inpaintrt_server.batching.mailbox import Mailbox
from inpaintrt_server.batching.observing import Stage
from inpaintrt_server.errors import DeadlineError

__all__ = ["Clock", "Task"]


class Clock:
    """Adds up where a request's time goes, on the monotonic clock.

    Args:
        admitted: When the request got its place.

    Attributes:
        admitted: When the request got its place.
        entered: When the first result took a slot; None before.
    """

    def __init__(self, admitted: float) -> None:
        self.admitted = admitted
        self._spent: dict[Stage, float] = {}
        self.entered: float | None = None
        self._left: float | None = None

    @contextmanager
    def stage(self, name: Stage) -> Iterator[None]:
        """Add what happens inside to a stage."""
        started = time.monotonic()
        try:
            yield
        finally:
            self._spent[name] = self._spent.get(name, 0.0) + time.monotonic() - started

    def enter(self) -> bool:
        """A result takes a slot; whether it is the first."""
        first = self.entered is None
        if first:
            self.entered = time.monotonic()
        return first

    def leave(self) -> None:
        """A result has done its last step."""
        self._left = time.monotonic()

    def timings(self, steps: int) -> JobTimings:
        """What was measured until now."""
        now = time.monotonic()
        entered = now if self.entered is None else self.entered
        left = entered if self._left is None else self._left
        names: tuple[Stage, ...] = ("prepare", "encode", "decode", "paste")
        spent = {name: self._spent.get(name, 0.0) for name in names}
        queue = max(entered - self.admitted - spent["prepare"] - spent["encode"], 0.0)
        return JobTimings(
            **spent, queue=queue, denoise=left - entered, total=now - self.admitted, steps=steps
        )


class Task:
    """A request that was handed in; what other threads may call is `cancel` and `fail`.

    Everything else belongs to the engine's thread, but for `prepared` and `picture_keys`, which a worker sets
    before it hands the task back.

    Args:
        job_id: The request's id.
        request: What is asked for.
        table: Its sampler's table.
        mailbox: Where its events go.
        clock: Where its time goes.
        deadline: When it has to be done, on the monotonic clock.
        preview_steps: Steps after which the listener gets previews; asked once after each step, so that what
            is in it may depend on the moment.

    Attributes:
        prepared: Its pictures.
        picture_keys: The contents of the pictures to encode.
        contexts: Its prompts, encoded.
        entries: What each result enters its slot with.
        waiting: Results that have no slot yet.
        seated: How many results are in slots.
        done: Steps that each result has done.
        latents: The final latents of each result that is done.
    """

    def __init__(
        self,
        job_id: str,
        request: Request,
        table: Table,
        mailbox: Mailbox,
        clock: Clock,
        *,
        deadline: float | None,
        preview_steps: Collection[int],
    ) -> None:
        self._id = job_id
        self.request = request
        self.table = table
        self.mailbox = mailbox
        self.clock = clock
        self.deadline = deadline
        self.preview_steps = preview_steps
        self.prepared: Sequence[Prepared] = ()
        self.picture_keys: Sequence[bytes] = ()
        self.contexts: Contexts | None = None
        self.entries: Sequence[Entry] = ()
        count = len(request.prompts)
        self.waiting = deque(range(count))
        self.seated = 0
        self.done = [0] * count
        self.latents: dict[int, NDArray[np.float32]] = {}

    @property
    def id(self) -> str:
        """The request's id."""
        return self._id

    def cancel(self) -> None:
        """Give up: slots are free at the next step, and the listener hears nothing more."""
        self.mailbox.close()

    def fail(self, error: Exception) -> None:
        """End with an error, whatever is still to come."""
        self.mailbox.fail(error)

    @property
    def over(self) -> bool:
        """Whether the listener has heard the last."""
        return self.mailbox.closed

    @property
    def denoised(self) -> bool:
        """Whether all results have done all steps."""
        return len(self.latents) == len(self.done)

    @property
    def rows(self) -> int:
        """The most UNet rows that a step of one result needs."""
        return self.entries[0].program.contexts

    @property
    def progress(self) -> int:
        """Steps done, the mean over all results."""
        return sum(self.done) // len(self.done)

    @property
    def notes(self) -> tuple[str, ...]:
        """What the caller should know."""
        of_pictures = dict.fromkeys(note for picture in self.prepared for note in picture.warnings)
        return (*of_pictures, *(() if self.contexts is None else self.contexts.warnings))

    def check_deadline(self, now: float) -> None:
        """Fail if the time is over and there is a step to come."""
        if self.deadline is None or now < self.deadline or self.denoised or self.over:
            return
        late = f"{self.progress} of {self.table.rows} steps done"
        self.fail(
            DeadlineError(
                "the request's time is over",
                received=late if self.entries else "still waiting",
                hint="allow more time, or ask for fewer steps",
            )
        )
