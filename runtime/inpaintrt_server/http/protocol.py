"""uvicorn's connections, with limits that it lacks: for headers, for leftovers, and for slow readers."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, ClassVar

from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    from inpaintrt_server.settings import ServerSettings

__all__ = ["PatientProtocol", "patient_protocol"]


class PatientProtocol(H11Protocol):
    """A connection that is cut off where a client dawdles outside a request's body.

    uvicorn has no limit for headers that come byte by byte, for the rest of a body that was refused, nor for
    a client that does not read its answer.
    """

    header_timeout: ClassVar[float]
    send_timeout: ClassVar[float]
    min_rate: ClassVar[float]
    _idle_timer: asyncio.TimerHandle | None = None
    _send_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for a first request."""
        super().connection_made(transport)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        super().connection_lost(exc)
        self._stop_idle_timer()
        self._stop_send_timer()

    def data_received(self, data: bytes) -> None:
        """See whether a request is complete enough to be served."""
        super().data_received(data)
        self._watch()

    def pause_writing(self) -> None:
        """The client reads more slowly than we write."""
        super().pause_writing()
        if self._send_timer is None:
            self._expect_progress()

    def _expect_progress(self) -> None:
        lying = self.transport.get_write_buffer_size()
        self._send_timer = self.loop.call_later(self.send_timeout, self._check_progress, lying)

    def _check_progress(self, lay: int) -> None:
        """Cut off a client that has not taken enough of what lay there."""
        if lay - self.transport.get_write_buffer_size() < self.min_rate * self.send_timeout:
            self.transport.abort()
        else:
            self._expect_progress()

    def resume_writing(self) -> None:
        """The client has caught up."""
        super().resume_writing()
        self._stop_send_timer()

    def _watch(self) -> None:
        """Run the clock unless a request is being served; its body has limits of its own."""
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop_idle_timer()
        elif self._idle_timer is None:
            self._idle_timer = self.loop.call_later(self.header_timeout, self.transport.abort)

    def _stop_idle_timer(self) -> None:
        if self._idle_timer is not None:
            self._idle_timer.cancel()
            self._idle_timer = None

    def _stop_send_timer(self) -> None:
        if self._send_timer is not None:
            self._send_timer.cancel()
            self._send_timer = None


def patient_protocol(settings: ServerSettings) -> type[PatientProtocol]:
    """A protocol class for uvicorn's `http` setting.

    Args:
        settings: Of these `header_timeout`, which also counts for the rest of a refused body, `send_timeout`
            and `min_rate`.
    """
    names = ("header_timeout", "send_timeout", "min_rate")
    limits: dict[str, Any] = {name: getattr(settings, name) for name in names}
    return type("LimitedProtocol", (PatientProtocol,), limits)
