"""uvicorn's connections, with limits that it lacks: for headers, for leftovers, and for slow readers."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

from uvicorn.protocols.http.h11_impl import H11Protocol

__all__ = ["PatientProtocol", "patient_protocol"]


class PatientProtocol(H11Protocol):
    """A connection that is cut off where a client dawdles outside a request's body.

    uvicorn has no limit for headers that come byte by byte, for the rest of a body that was refused, nor for
    a client that does not read its answer.
    """

    header_timeout: ClassVar[float]
    send_timeout: ClassVar[float]
    _idle_timer: asyncio.TimerHandle | None = None
    _send_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for a first request."""
        super().connection_made(transport)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        super().connection_lost(exc)
        self._idle_timer = _cancelled(self._idle_timer)
        self._send_timer = _cancelled(self._send_timer)

    def data_received(self, data: bytes) -> None:
        """See whether a request is complete enough to be served."""
        super().data_received(data)
        self._watch()

    def pause_writing(self) -> None:
        """The client reads more slowly than we write."""
        super().pause_writing()
        if self._send_timer is None:
            self._send_timer = self.loop.call_later(self.send_timeout, self.transport.abort)

    def resume_writing(self) -> None:
        """The client has caught up."""
        super().resume_writing()
        self._send_timer = _cancelled(self._send_timer)

    def _watch(self) -> None:
        """Run the clock unless a request is being served; its body has limits of its own."""
        if self.cycle is not None and not self.cycle.response_complete:
            self._idle_timer = _cancelled(self._idle_timer)
        elif self._idle_timer is None:
            self._idle_timer = self.loop.call_later(self.header_timeout, self.transport.abort)


def _cancelled(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()


def patient_protocol(header_timeout: float, send_timeout: float) -> type[PatientProtocol]:
    """A protocol class for uvicorn's `http` setting.

    Args:
        header_timeout: Seconds that a client has for headers, and for the rest of a refused body.
        send_timeout: Seconds that a client may leave an answer lying.
    """
    limits: dict[str, Any] = {"header_timeout": header_timeout, "send_timeout": send_timeout}
    return type("LimitedProtocol", (PatientProtocol,), limits)
