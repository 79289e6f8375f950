"""The requests that are under way, which clients ask about and interrupt."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from PIL import Image

from inpaintrt_server.batching.events import Started, Stepped
from inpaintrt_server.http.running import Progress

__all__ = ["Jobs", "PreviewsOnDemand", "WebuiJob"]

_SECONDS_BETWEEN_PREVIEWS = 1.0


class PreviewsOnDemand(Collection[int]):
    """Steps after which to make previews: the next one, whenever somebody asks.

    The batching service asks after every step, in a thread of its own, whether it is in here.

    Attributes:
        interrupted: Whether the next preview is to be the result.
    """

    def __init__(self) -> None:
        # A queue of at most one entry: adding and taking are atomic.
        self._asked: deque[None] = deque(maxlen=1)
        self.interrupted = False

    def ask(self) -> None:
        """Have a preview made after the next step."""
        self._asked.append(None)

    def __contains__(self, step: object) -> bool:
        try:
            self._asked.pop()
        except IndexError:
            return False
        return True

    def __iter__(self) -> Iterator[int]:
        return iter(())

    def __len__(self) -> int:
        return 0


@dataclass(eq=False)
class WebuiJob:
    """A request under way; all but `previews` belongs to the event loop.

    Attributes:
        owner: Whose it is.
        name: What the client calls it, or the request's id.
        previews: Asks for previews.
        started: When it arrived, on `time.monotonic()`.
        stamp: When it arrived, as text.
        steps: Steps there are; 0 while it waits.
        step: Steps that are done.
        images: The newest preview of each result.
    """

    owner: str
    name: str
    previews: PreviewsOnDemand = field(default_factory=PreviewsOnDemand)
    started: float = field(default_factory=time.monotonic)
    stamp: str = field(default_factory=lambda: time.strftime("%Y%m%d%H%M%S"))
    steps: int = 0
    step: int = 0
    images: tuple[Image.Image, ...] = ()
    _asked_at: float = 0.0

    @property
    def interrupted(self) -> bool:
        """Whether it is to end with the next preview."""
        return self.previews.interrupted

    @property
    def share(self) -> float:
        """How much of it is done, from 0 to 1."""
        return self.step / self.steps if self.steps else 0.0

    def record(self, event: Progress) -> None:
        """Note how far it is."""
        match event:
            case Started(total=total):
                self.steps = total
            case Stepped(index=index, previews=previews):
                self.step = index
                self.images = previews or self.images
            case _:
                pass

    def want_preview(self) -> None:
        """Have a preview made, unless one was asked for a moment ago."""
        now = time.monotonic()
        if now - self._asked_at >= _SECONDS_BETWEEN_PREVIEWS:
            self._asked_at = now
            self.previews.ask()

    def interrupt(self) -> None:
        """Have it end with what it has after the next step; one that still waits is left alone."""
        if self.steps:
            self.previews.interrupted = True
            self.previews.ask()


class Jobs:
    """The requests under way, the oldest first. Belongs to the event loop."""

    def __init__(self) -> None:
        self._jobs: list[WebuiJob] = []

    @contextmanager
    def enter(self, job: WebuiJob) -> Iterator[WebuiJob]:
        """Have a request counted for as long as it is under way."""
        self._jobs.append(job)
        try:
            yield job
        finally:
            self._jobs.remove(job)

    def of(self, owner: str) -> list[WebuiJob]:
        """The requests of one owner."""
        return [job for job in self._jobs if job.owner == owner]
