"""The outermost layer: request ids, the access log, and the answer to every error that nobody else gave."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from inpaintrt_server.batching.events import JobTimings
from inpaintrt_server.errors import ServerError
from inpaintrt_server.http.api import OTHER, Api, find_api
from inpaintrt_server.http.errors import Problem, log_failure, problem_of, respond
from inpaintrt_server.http.record import RequestRecord, choose_id, keep
from inpaintrt_server.http.refusals import MalformedRequestError, TooManyConnectionsError

if TYPE_CHECKING:
    from inpaintrt_server.http.metrics import Metrics

__all__ = ["AccessLayer", "refuse_connection"]

_log = logging.getLogger("inpaintrt.access")
_REFUSED_BELOW = (MalformedRequestError, TooManyConnectionsError)


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
        record = RequestRecord(choose_id(wanted), find_api(self._apis, scope["method"], scope["path"]))
        keep(scope, record)
        try:
            await self._serve(scope, receive, _recording(send, record, scope["method"]), record)
        finally:
            client = scope["client"][0] if scope.get("client") else None
            _finish(record, self._metrics, client, scope["method"], scope["path"])

    async def _serve(self, scope: Scope, receive: Receive, send: Send, record: RequestRecord) -> None:
        try:
            await self._app(scope, receive, send)
        except Exception as error:  # noqa: BLE001  the last place that can answer
            problem = record.api.adapt(problem_of(error))
            record.code = problem.code
            log_failure(error, problem, record.id)
            _count_refusal(error, problem, self._metrics)
            if not record.status:
                await respond(problem, record.api.shape)(scope, receive, send)


def refuse_connection(
    error: ServerError, metrics: Metrics, client: tuple[str, int] | None, status: int | None = None
) -> Response:
    """Count, log and answer what did not become a request.

    Args:
        error: Why it is refused.
        metrics: Counts it.
        client: Address and port.
        status: The HTTP status, where it is not the one of the table.
    """
    problem = problem_of(error)
    problem = problem if status is None else replace(problem, status=status)
    record = RequestRecord(choose_id(None), OTHER, status=problem.status, code=problem.code)
    answer = respond(problem, OTHER.shape)
    answer.headers.update(_own_headers(record))
    record.sent = len(answer.body)
    _count_refusal(error, problem, metrics)
    _finish(record, metrics, client and client[0])
    return answer


def _count_refusal(error: Exception, problem: Problem, metrics: Metrics) -> None:
    if isinstance(error, _REFUSED_BELOW):
        metrics.refused(problem.code)


def _finish(
    record: RequestRecord,
    metrics: Metrics,
    client: str | None,
    method: str | None = None,
    path: str | None = None,
) -> None:
    """Count and log a request that is over; what was refused before it became one has no method and path."""
    seconds = time.monotonic() - record.arrived
    metrics.count_request(record.api.name, record.status, seconds)
    line = {
        "request_id": record.id,
        "client": client,
        "method": method,
        "path": path,
        "api": record.api.name,
        "status": record.status,
        "code": record.code,
        "lora": record.lora,
        "seconds": round(seconds, 4),
        "received": record.received,
        "sent": record.sent,
        "timings": None if record.timings is None else _rounded(record.timings),
    }
    _log.info("request", extra={"fields": {key: value for key, value in line.items() if value is not None}})


def _rounded(timings: JobTimings) -> dict[str, float]:
    return {name: round(seconds, 4) for name, seconds in vars(timings).items()}


def _recording(send: Send, record: RequestRecord, method: str) -> Send:
    async def recording(message: Message) -> None:
        if message["type"] == "http.response.start":
            record.status = message["status"]
            MutableHeaders(scope=message).update(_own_headers(record))
        elif message["type"] == "http.response.body" and method != "HEAD":
            record.sent += len(message.get("body", b""))
        await send(message)

    return recording


def _own_headers(record: RequestRecord) -> dict[str, str]:
    return {"X-Request-Id": record.id, "X-Content-Type-Options": "nosniff"}
