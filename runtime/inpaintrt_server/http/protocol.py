"""uvicorn's connections, with limits that it lacks: for headers, for leftovers, and for slow readers."""

from __future__ import annotations

import asyncio
import sys
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, ClassVar

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from inpaintrt_server.errors import ServerError
from inpaintrt_server.http.access import refuse_connection
from inpaintrt_server.http.connections import Connection, attach, too_many
from inpaintrt_server.http.refusals import MalformedRequestError

if TYPE_CHECKING:
    from inpaintrt_server.http.context import Context

__all__ = ["PatientProtocol", "patient_protocol"]

# h11 looks at the size of headers that are not complete, after each piece.
_PIECE = 4096


class PatientProtocol(H11Protocol):
    """A connection that is cut off where a client dawdles outside a request's body.

    uvicorn has no limit for headers that come byte by byte, for the rest of a body that was refused, nor for
    a client that does not read its answer. What it refuses by itself, it does in plain text and without a
    line in the log; here that has the form of every other refusal.
    """

    context: ClassVar[Context]
    _header_timer: asyncio.TimerHandle | None = None
    _send_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for a first request, if there is a place."""
        super().connection_made(transport)
        self._connection = Connection()
        self.app_state = attach(self.app_state, self._connection)
        if self.context.connections.enter(self._connection, self._turn_away):
            self._watch()
        else:
            self._refuse(too_many(self.context.connections))

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        super().connection_lost(exc)
        self.context.connections.leave(self._connection)
        self._unset_keepalive_if_required()
        self._stop_header_timer()
        self._stop_send_timer()

    def data_received(self, data: bytes) -> None:
        """See whether a request is complete enough to be served."""
        for start in range(0, len(data), _PIECE):
            if self._is_serving():
                super().data_received(data[start:])
                break
            if self.transport.is_closing():
                break
            super().data_received(data[start : start + _PIECE])
        self._watch()

    def on_response_complete(self) -> None:
        """Wait for what is left of the request, or for the next one."""
        super().on_response_complete()
        self._watch()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP; an application that reads such a body gets an error."""
        del msg
        error = sys.exception()
        if self._is_serving():
            self._connection.malformed = str(error)
            self.cycle.more_body = False
            self.cycle.message_event.set()
        else:
            self._refuse(MalformedRequestError("this is not HTTP", received=str(error)), _status_of(error))

    def _turn_away(self) -> bool:
        """Make room for others, unless a request is being served; whether it did."""
        if self._is_serving():
            return False
        self._refuse(too_many(self.context.connections))
        return True

    def _refuse(self, error: ServerError, status: int | None = None) -> None:
        """Answer what is no request, where no other answer is under way, and close the connection."""
        self.context.connections.leave(self._connection)
        if self.conn.our_state is h11.IDLE:
            answer = refuse_connection(error, self.context.metrics, self.client, status)
            start = h11.Response(
                status_code=answer.status_code,
                headers=[*self.server_state.default_headers, *answer.raw_headers],
                reason=HTTPStatus(answer.status_code).phrase,
            )
            for event in (start, h11.Data(data=bytes(answer.body)), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def pause_writing(self) -> None:
        """The client reads more slowly than we write."""
        super().pause_writing()
        if self._send_timer is None:
            self._expect_progress()

    def _expect_progress(self) -> None:
        lying = self.transport.get_write_buffer_size()
        patience = self.context.settings.send_timeout
        self._send_timer = self.loop.call_later(patience, self._check_progress, lying)

    def _check_progress(self, lay: int) -> None:
        """Cut off a client that has not taken enough of what lay there."""
        settings = self.context.settings
        if lay - self.transport.get_write_buffer_size() < settings.min_rate * settings.send_timeout:
            self.transport.abort()
        else:
            self._expect_progress()

    def resume_writing(self) -> None:
        """The client has caught up."""
        super().resume_writing()
        self._stop_send_timer()

    def _is_serving(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _watch(self) -> None:
        """Run the clock that belongs to what the client is to send next.

        While a request is being served none: its body has limits of its own. Between two requests that is
        uvicorn's, for keeping connections alive.
        """
        if self._is_serving() or self.transport.is_closing():
            self._stop_header_timer()
        elif self._has_begun():
            self._unset_keepalive_if_required()
            if self._header_timer is None:
                patience = self.context.settings.header_timeout
                self._header_timer = self.loop.call_later(patience, self.transport.abort)
        else:
            self._stop_header_timer()
            self._keep_alive()

    def _has_begun(self) -> bool:
        """Whether a first request, the rest of a body, or the rest of headers is to come."""
        return self.cycle is None or self.conn.their_state is not h11.IDLE or bool(self.conn.trailing_data[0])

    def _keep_alive(self) -> None:
        if self.timeout_keep_alive_task is None:
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def _stop_header_timer(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None

    def _stop_send_timer(self) -> None:
        if self._send_timer is not None:
            self._send_timer.cancel()
            self._send_timer = None


def _status_of(error: BaseException | None) -> int:
    """The status that h11 suggests, such as 431 for too large headers."""
    if isinstance(error, h11.RemoteProtocolError):
        return error.error_status_hint
    return int(HTTPStatus.BAD_REQUEST)


def patient_protocol(context: Context) -> type[PatientProtocol]:
    """A protocol class for uvicorn's `http` setting.

    Args:
        context: Of the settings `header_timeout`, which also counts for the rest of a refused body,
            `send_timeout` and `min_rate`; the connections; and the metrics that count refusals.
    """
    limits: dict[str, Any] = {"context": context}
    return type("LimitedProtocol", (PatientProtocol,), limits)
