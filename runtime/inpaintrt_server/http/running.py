"""Handing a request in and following it, for as long as the client is there."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import AsyncGenerator, Collection, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from starlette.requests import Request

from inpaintrt.request import Request as PipelineRequest
from inpaintrt_server.batching.admission import Permit
from inpaintrt_server.batching.events import Event, Failed, Finished, Started, Stepped
from inpaintrt_server.errors import CancelledError
from inpaintrt_server.http.context import Context, context_of
from inpaintrt_server.http.errors import problem_of
from inpaintrt_server.http.record import record_of
from inpaintrt_server.http.refusals import FieldError

__all__ = ["Progress", "Running", "Waiting", "admission", "deadline_of", "start_job"]


@dataclass(frozen=True)
class Waiting:
    """Nothing has happened for a while."""


Progress: TypeAlias = "Started | Stepped | Finished | Waiting"


@contextlib.contextmanager
def admission(context: Context) -> Iterator[Permit]:
    """A place in the queue, to be taken before a body is read; it is given back unless it was used.

    Raises:
        QueueFullError: There is no place.
        DrainingError: The server is stopping.
        EngineLostError: The engine is gone.
    """
    permit = context.service.admit()
    try:
        yield permit
    finally:
        permit.release()


def deadline_of(request: Request) -> float:
    """When the client's `X-Request-Timeout`, or else the server's limit, is over; on `time.monotonic()`.

    Raises:
        FieldError: The header is not a number of seconds.
    """
    limit = context_of(request).settings.request_timeout
    given = request.headers.get("x-request-timeout")
    if given is None:
        return record_of(request).arrived + limit
    try:
        seconds = float(given)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise FieldError(
            "X-Request-Timeout is not a number of seconds",
            field="X-Request-Timeout",
            received=repr(given),
            expected="a number above 0",
        )
    return record_of(request).arrived + min(seconds, limit)


def start_job(
    http_request: Request,
    permit: Permit,
    request: PipelineRequest,
    *,
    preview_steps: Collection[int] = (),
) -> Running:
    """Hand a request in. If the client hangs up, the job is given up, whether its events are read or not.

    Args:
        http_request: Whose body was read to its end; it brings the deadline and the request id.
        permit: From `admission`.
        request: From `make_request`; its images are bytes, never texts.
        preview_steps: After which steps to make previews.

    Raises:
        InputError: The request cannot be served.
        FieldError: The header `X-Request-Timeout` is not a number of seconds.
    """
    return Running(http_request, permit, request, preview_steps)


class Running:
    """A job that was handed in; see `start_job`. Belongs to the event loop that made it."""

    def __init__(
        self,
        http_request: Request,
        permit: Permit,
        request: PipelineRequest,
        preview_steps: Collection[int],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self._record = record_of(http_request)
        job = context_of(http_request).service.submit(
            permit,
            request,
            self._hear,
            job_id=self._record.id,
            deadline=deadline_of(http_request),
            preview_steps=preview_steps,
        )
        watcher = self._loop.create_task(self._watch(http_request))
        self._ends = contextlib.ExitStack()
        self._ends.callback(job.cancel)
        self._ends.callback(watcher.cancel)

    @property
    def id(self) -> str:
        """The request's id."""
        return self._record.id

    def _hear(self, event: Event) -> None:
        # The loop may be closed already when the process ends.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._events.put_nowait, event)

    async def _watch(self, http_request: Request) -> None:
        while (await http_request.receive())["type"] != "http.disconnect":
            pass
        self._events.put_nowait(Failed(CancelledError("the client hung up")))
        self.close()

    async def events(self, heartbeat: float | None = None) -> AsyncGenerator[Progress, None]:
        """What happens, in order; `Finished` is the last. Leaving early gives the job up.

        Args:
            heartbeat: Seconds without an event after which there is a `Waiting`; None for never.

        Raises:
            InpaintError: The job failed, was cancelled, or its time was over.
        """
        try:
            while True:
                event = await self._next(heartbeat)
                if isinstance(event, Failed):
                    self._record.code = problem_of(event.error).code
                    try:
                        raise event.error
                    finally:
                        del event  # else this frame and the error's traceback would keep each other
                if isinstance(event, Finished):
                    self._record.timings = event.timings
                yield event
                if isinstance(event, Finished):
                    return
        finally:
            self.close()

    async def _next(self, heartbeat: float | None) -> Event | Waiting:
        try:
            async with asyncio.timeout(heartbeat):
                return await self._events.get()
        except TimeoutError:
            return Waiting()

    async def result(self) -> Finished:
        """Wait for the end.

        Raises:
            InpaintError: The job failed, was cancelled, or its time was over.
        """
        async with contextlib.aclosing(self.events()) as events:
            async for event in events:
                if isinstance(event, Finished):
                    return event
        raise AssertionError("the events ended without a result: this is a bug")

    def close(self) -> None:
        """Give the job up if it still runs, and keep nothing of it, whoever keeps this."""
        self._ends.close()
