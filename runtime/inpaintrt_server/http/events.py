"""Server-sent events: progress while a request runs.

The package sse-starlette is not used: at import it replaces uvicorn's signal handler, and it ends running
streams as soon as the server is asked to stop, where ours are to finish.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from types import MappingProxyType
from typing import Any, TypeAlias

from starlette.responses import StreamingResponse

from inpaintrt_server.batching.events import Finished, Started, Stepped
from inpaintrt_server.http.errors import Problem, log_failure, problem_of
from inpaintrt_server.http.running import Running, Waiting

__all__ = ["EVENT_SCHEMA", "EventStream", "Translate", "sse"]

_PING = b": still here\n\n"
_SECONDS_BETWEEN_PINGS = 15.0

EVENT_SCHEMA: Mapping[str, Any] = MappingProxyType(
    {
        "type": "object",
        "description": "Each event of the stream.",
        "required": ["data"],
        "properties": {
            "event": {"type": "string"},
            "data": {"type": "string", "contentMediaType": "application/json"},
        },
    }
)
"""How OpenAPI describes an event; before version 3.2 it has no schema for a stream as a whole."""

Translate: TypeAlias = "Callable[[Started | Stepped | Finished], AsyncIterator[bytes]]"
"""Turns an event of a job into the bytes of server-sent events, made with `sse`."""


def sse(data: Mapping[str, Any], event: str | None = None) -> bytes:
    """One server-sent event with JSON as its data, and a name unless that is None."""
    name = "" if event is None else f"event: {event}\n"
    return f"{name}data: {json.dumps(data)}\n\n".encode()


class EventStream(StreamingResponse):
    """A job's events as they come, with a sign of life while it waits in the queue.

    Args:
        running: The job; it is given up when the stream ends early.
        translate: Events of the job to events of the stream.
        translate_problem: The last event of a job that failed.
    """

    media_type = "text/event-stream"

    def __init__(
        self, running: Running, translate: Translate, translate_problem: Callable[[Problem], bytes]
    ) -> None:
        super().__init__(
            _stream(running, translate, translate_problem),
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )


async def _stream(
    running: Running, translate: Translate, translate_problem: Callable[[Problem], bytes]
) -> AsyncGenerator[bytes, None]:
    try:
        async with contextlib.aclosing(running.events(_SECONDS_BETWEEN_PINGS)) as events:
            async for event in events:
                if isinstance(event, Waiting):
                    yield _PING
                else:
                    async for part in translate(event):
                        yield part
    except Exception as error:  # noqa: BLE001  the status is sent: what is left to tell goes into the stream
        problem = problem_of(error)
        log_failure(error, problem, running.id)
        yield translate_problem(problem)
