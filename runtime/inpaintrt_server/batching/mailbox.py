"""The way of a request's events to its listener: in order, from whichever thread they come."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from threading import RLock

from inpaintrt_server.batching.jobs import Event, Failed, Finished, Listener
from inpaintrt_server.batching.observing import Ending

__all__ = ["Letter", "Mailbox", "MakeEvent"]

MakeEvent = Callable[[], Event]

logger = logging.getLogger(__name__)


class Letter:
    """A place in the order of events, whose event is made later."""

    def __init__(self) -> None:
        self.make: MakeEvent | None = None


class Mailbox:
    """Hands events to a listener, and is silent after the last.

    The lock is held while the listener runs, so that nothing is heard once `close` has returned; it is
    re-entrant, since a listener may cancel its own request. No other lock is taken meanwhile but the
    listener's own, and those of `on_end`, which hold none of ours.

    Args:
        job_id: Names the request in logs.
        listener: Hears the events.
        pool: Makes events that take a while, such as those with pictures.
        on_end: Called once, after the last event.
    """

    def __init__(
        self, job_id: str, listener: Listener, pool: Executor, on_end: Callable[[Ending], None]
    ) -> None:
        self._job_id = job_id
        self._listener = listener
        self._pool = pool
        self._on_end = on_end
        self._letters: deque[Letter] = deque()
        self._posting = False
        self._lock = RLock()
        self.closed = False

    def put(self, event: Event) -> None:
        """Hand over an event after those before it; at once if there are none."""
        with self._lock:
            if not self._letters and not self._posting:
                self._deliver(event)
                return
        self.fill(self.reserve(), lambda: event)

    def reserve(self) -> Letter:
        """Keep a place in the order; later events wait until it is filled."""
        letter = Letter()
        with self._lock:
            if not self.closed:
                self._letters.append(letter)
        return letter

    def fill(self, letter: Letter, make: MakeEvent) -> None:
        """Have the event of a reserved place made by the pool; what `make` raises becomes `Failed`."""
        with self._lock:
            letter.make = make
            if not self.closed and not self._posting and self._letters and self._letters[0].make is not None:
                self._posting = True
                self._pool.submit(self._post)

    def fail(self, error: Exception) -> None:
        """End with an error at once; events that are not yet made are dropped."""
        with self._lock:
            self._letters.clear()
            self._deliver(Failed(error))

    def close(self) -> None:
        """Let nothing be heard any more."""
        self._end("cancelled")

    def _post(self) -> None:
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
            if not self._letters or self._letters[0].make is None:
                self._posting = False
                return None
            return self._letters.popleft().make

    def _deliver(self, event: Event) -> None:
        if self.closed:
            return
        try:
            self._listener(event)
        except Exception:  # noqa: BLE001 - logged
            self._log("a listener raised, so its request is given up")
            self._end("cancelled")
        if isinstance(event, Finished | Failed):
            self._end("finished" if isinstance(event, Finished) else "failed")

    def _log(self, what: str) -> None:
        logger.exception("%s: %s", self._job_id, what, extra={"job_ids": [self._job_id]})

    def _end(self, how: Ending) -> None:
        with self._lock:
            if self.closed:
                return
            self.closed = True
            self._letters.clear()
            self._listener = _nobody
        self._on_end(how)


def _nobody(event: Event) -> None:
    """In place of a listener, which usually holds the request: both would wait for a garbage collection."""
