"""The outermost layer: request ids, the access log, and the answer to every error that nobody else gave."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from inpaintrt_server.batching.jobs import JobTimings
from inpaintrt_server.http.api import Api, find_api
from inpaintrt_server.http.errors import log_failure, problem_of, respond
from inpaintrt_server.http.record import RequestRecord, choose_id, keep

if TYPE_CHECKING:
    from inpaintrt_server.http.metrics import Metrics

__all__ = ["AccessLayer"]

_log = logging.getLogger("inpaintrt.access")


class AccessLayer:
    """Gives every request an id, catches what was raised, and writes one line of the access log.

    Neither prompts nor query strings are logged.

    Args:
        app: The application inside.
        apis: The interfaces.
        metrics: Counts requests.
    """

    def __init__(self, app: ASGIApp, apis: Sequence[Api], metrics: Metrics) -> None:
        self._app = app
        self._apis = apis
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        wanted = Headers(scope=scope).get("x-request-id")
        record = RequestRecord(choose_id(wanted), find_api(self._apis, scope["path"]))
        keep(scope, record)
        try:
            await self._serve(scope, receive, _recording(send, record), record)
        finally:
            self._finish(scope, record)

    async def _serve(self, scope: Scope, receive: Receive, send: Send, record: RequestRecord) -> None:
        try:
            await self._app(scope, receive, send)
        except Exception as error:  # noqa: BLE001  the last place that can answer
            problem = record.api.adapt(problem_of(error))
            record.code = problem.code
            log_failure(error, problem, record.id)
            if not record.status:
                await respond(problem, record.api.shape)(scope, receive, send)

    def _finish(self, scope: Scope, record: RequestRecord) -> None:
        seconds = time.monotonic() - record.arrived
        self._metrics.count_request(record.api.name, record.status, seconds)
        line = {
            "request_id": record.id,
            "client": scope["client"][0] if scope.get("client") else None,
            "method": scope["method"],
            "path": scope["path"],
            "api": record.api.name,
            "status": record.status,
            "code": record.code,
            "seconds": round(seconds, 4),
            "received": record.received,
            "sent": record.sent,
            "timings": None if record.timings is None else _rounded(record.timings),
        }
        _log.info(
            "request", extra={"fields": {key: value for key, value in line.items() if value is not None}}
        )


def _rounded(timings: JobTimings) -> dict[str, float]:
    return {name: round(seconds, 4) for name, seconds in vars(timings).items()}


def _recording(send: Send, record: RequestRecord) -> Send:
    async def recording(message: Message) -> None:
        if message["type"] == "http.response.start":
            record.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["X-Request-Id"] = record.id
            headers["X-Content-Type-Options"] = "nosniff"
        elif message["type"] == "http.response.body":
            record.sent += len(message.get("body", b""))
        await send(message)

    return recording
