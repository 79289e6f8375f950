"""Bodies: how many bytes, and how fast they have to arrive."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from inpaintrt_server.http.connections import Connection, connection_of
from inpaintrt_server.http.record import RequestRecord, record_of
from inpaintrt_server.http.refusals import BodyTooLargeError, BodyTooSlowError, MalformedRequestError

__all__ = ["BodyLayer", "BodyLimits"]

_SECONDS_BEFORE_RATE_COUNTS = 5.0


@dataclass(frozen=True)
class BodyLimits:
    """What a body may be.

    Attributes:
        size: Maximum number of bytes.
        seconds: The longest time from the first read to the last byte.
        rate: The fewest bytes a second, on average after the first five seconds.
    """

    size: int
    seconds: float
    rate: float

    def patience(self, received: int) -> float:
        """Seconds after the first read until which the next bytes must have come."""
        return min(self.seconds, _SECONDS_BEFORE_RATE_COUNTS + received / self.rate)


class BodyLayer:
    """Counts and times bodies while they are read; nothing is kept.

    Args:
        app: The application inside.
        limits: What a body may be.
    """

    def __init__(self, app: ASGIApp, limits: BodyLimits) -> None:
        self._app = app
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request.

        Raises:
            BodyTooLargeError: The body is too large, by its header or by its bytes.
            BodyTooSlowError: The body does not arrive in time.
            MalformedRequestError: The body is not what HTTP has bodies be.
        """
        if scope["type"] == "http":
            connection = HTTPConnection(scope)
            announced = connection.headers.get("content-length", "")
            # isdecimal alone would let other scripts' digits through.
            if announced.isascii() and announced.isdecimal():
                _check_size(int(announced), self._limits)
            came_by = connection_of(scope) or Connection()
            receive = _Meter(receive, record_of(connection), came_by, self._limits).receive
        await self._app(scope, receive, send)


class _Meter:
    """Counts and times one body."""

    def __init__(
        self, receive: Receive, record: RequestRecord, connection: Connection, limits: BodyLimits
    ) -> None:
        self._receive = receive
        self._record = record
        self._connection = connection
        self._limits = limits
        self._started: float | None = None
        self._complete = False

    async def receive(self) -> Message:
        if self._complete:
            return await self._receive()
        if self._started is None:
            self._started = time.monotonic()
        patience = self._limits.patience(self._record.received)
        try:
            async with asyncio.timeout(self._started + patience - time.monotonic()):
                message = await self._receive()
        except TimeoutError as error:
            raise self._too_slow() from error
        if self._connection.malformed is not None:
            raise MalformedRequestError("the body is not HTTP", received=self._connection.malformed)
        self._record.received += len(message.get("body", b""))
        self._complete = not message.get("more_body", False)
        _check_size(self._record.received, self._limits)
        return message

    def _too_slow(self) -> BodyTooSlowError:
        return BodyTooSlowError(
            "the body does not arrive in time",
            received=f"{self._record.received} bytes",
            expected=f"all in {self._limits.seconds:g} s, at {self._limits.rate:g} bytes a second or more",
        )


def _check_size(size: int, limits: BodyLimits) -> None:
    if size > limits.size:
        raise BodyTooLargeError(
            "the body is too large", received=f"{size} bytes or more", expected=f"at most {limits.size} bytes"
        )
