"""Admission: a bounded number of permits, each from before a request's body is read until its end."""

from __future__ import annotations

import time
from threading import Condition, Lock

from inpaintrt.errors import InpaintError
from inpaintrt_server.batching.events import Observer
from inpaintrt_server.errors import DrainingError, EngineLostError, QueueFullError

__all__ = ["Admission", "Permit"]

_NEWEST_GAP = 0.2
_SHORTEST_WAIT = 1.0
_LONGEST_WAIT = 120.0


class Permit:
    """The right to submit one request: given back by `release` before it is used, by `end` afterwards.

    Attributes:
        taken_at: When, on the monotonic clock.
    """

    def __init__(self, admission: Admission, taken_at: float) -> None:
        self.taken_at = taken_at
        self._admission = admission
        self._state = "open"
        self._lock = Lock()

    def release(self) -> None:
        """Give the permit back; does nothing once the request was submitted or the permit given back."""
        self._free("open", served=False)

    def use(self, admission: Admission) -> None:
        """Submit a request.

        Raises:
            InpaintError: The permit was used before, given back, or is another service's.
        """
        if admission is not self._admission:
            raise InpaintError(
                "the permit is another service's",
                received="a permit that this service did not give",
                expected="one from its method admit",
            )
        with self._lock:
            if self._state != "open":
                raise InpaintError(
                    "a permit is good for one request",
                    received=f"one that was {self._state}",
                    expected="a fresh one",
                    hint="call admit for each request",
                )
            self._state = "used"

    def end(self) -> None:
        """Give the permit back at the end of the request; does nothing the second time."""
        self._free("used", served=True)

    def _free(self, state: str, *, served: bool) -> None:
        with self._lock:
            if self._state != state:
                return
            self._state = "given back"
        self._admission.free(served=served)


class Admission:
    """Counts permits. Any thread may call anything; nothing blocks but `wait_empty`.

    Args:
        capacity: How many permits there are.
        observer: Gets the refusals.
    """

    def __init__(self, capacity: int, observer: Observer) -> None:
        self.capacity = capacity
        self._observer = observer
        self._changed = Condition()
        self._outstanding = 0
        self._draining = False
        self._lost: EngineLostError | None = None
        self._refused = 0
        self._gap: float | None = None
        self._last_end = 0.0

    def admit(self) -> Permit:
        """Take a permit.

        Raises:
            QueueFullError: There is none.
            DrainingError: The server is stopping.
            EngineLostError: The engine failed for good.
        """
        with self._changed:
            self._check_open()
            now = time.monotonic()
            if self._outstanding == 0:
                self._last_end = now  # The gap to the end before was idleness, which says nothing of speed.
            self._outstanding += 1
        return Permit(self, now)

    def _check_open(self) -> None:
        if self._lost is not None:
            self._observer.refused("engine_lost")
            raise self._lost
        if self._draining:
            self._observer.refused("draining")
            raise DrainingError("the server is stopping", hint="ask another one, or try again in a while")
        if self._outstanding >= self.capacity:
            self._observer.refused("queue_full")
            self._refused += 1
            raise QueueFullError(
                "the queue is full",
                retry_after=self._retry_after(),
                received=f"{self._outstanding} requests",
                expected=f"at most {self.capacity}",
            )

    def _retry_after(self) -> float:
        """The n-th refusal since a permit came free advises the time in which n come free."""
        return min(max((self._gap or 0.0) * self._refused, _SHORTEST_WAIT), _LONGEST_WAIT)

    def free(self, *, served: bool) -> None:
        """Take a permit back; `served` if a request has used it. For `Permit` alone."""
        with self._changed:
            self._outstanding -= 1
            self._refused = 0
            if served:
                now = time.monotonic()
                gap, self._last_end = now - self._last_end, now
                self._gap = gap if self._gap is None else self._gap + _NEWEST_GAP * (gap - self._gap)
            self._changed.notify_all()

    def drain(self) -> None:
        """Admit nothing more."""
        with self._changed:
            self._draining = True

    def lose(self, error: EngineLostError) -> None:
        """Admit nothing more, since the engine is gone."""
        with self._changed:
            self._lost = error

    @property
    def outstanding(self) -> int:
        """Permits that are taken."""
        return self._outstanding

    @property
    def draining(self) -> bool:
        """Whether nothing more is admitted."""
        return self._draining

    @property
    def lost(self) -> bool:
        """Whether the engine is gone."""
        return self._lost is not None

    def wait_empty(self, timeout: float | None = None) -> bool:
        """Wait until all permits are free; False if they are not in time."""
        with self._changed:
            return self._changed.wait_for(lambda: self._outstanding == 0, timeout)
