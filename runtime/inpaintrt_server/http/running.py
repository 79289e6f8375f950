"""Handing a request in and following it, for as long as the client is there."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import AsyncGenerator, Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeAlias

from starlette.requests import Request
from starlette.responses import StreamingResponse

from inpaintrt.request import Request as PipelineRequest
from inpaintrt_server.batching.admission import Permit
from inpaintrt_server.batching.events import Event, Failed, Finished, Started, Stepped
from inpaintrt_server.batching.loras import NO_LORAS, LoraChoice
from inpaintrt_server.errors import CancelledError
from inpaintrt_server.http.answers import Encoded, Output, Previewed, encode_events, encode_images, sse
from inpaintrt_server.http.context import Context, context_of
from inpaintrt_server.http.errors import Problem, log_failure, problem_of
from inpaintrt_server.http.record import RequestRecord, record_of
from inpaintrt_server.http.refusals import FieldError

__all__ = ["Admitted", "Message", "Progress", "Running", "Translate", "Waiting", "admission"]

_STREAM_HEADERS = MappingProxyType({"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
_PING = b": still here\n\n"
_SECONDS_BETWEEN_PINGS = 15.0


@dataclass(frozen=True)
class Waiting:
    """Nothing has happened for a while."""


Progress: TypeAlias = "Started | Stepped | Finished | Waiting"

Message: TypeAlias = tuple[str, Mapping[str, Any]]
"""A server-sent event: its name and its data."""

Translate: TypeAlias = "Callable[[Started | Stepped | Previewed | Encoded], Message | None]"
"""Turns an event of a job into one of the stream; None for those that clients are not told of."""


@contextlib.contextmanager
def admission(http_request: Request) -> Iterator[Admitted]:
    """A place in the queue, to be taken before a body is read; it is given back unless it was used.

    Raises:
        QueueFullError: There is no place.
        DrainingError: The server is stopping.
        EngineLostError: The engine is gone.
    """
    context = context_of(http_request)
    permit = context.service.admit()
    try:
        yield Admitted(http_request, context, record_of(http_request), permit)
    finally:
        permit.release()


@dataclass(frozen=True)
class Admitted:
    """An HTTP request that has a place in the queue.

    Attributes:
        http_request: The request; it brings the deadline.
        context: What it shares with others.
        record: What the server knows of it.
        permit: Its place.
    """

    http_request: Request
    context: Context
    record: RequestRecord
    permit: Permit

    def start_job(
        self,
        request: PipelineRequest,
        preview_steps: int | Collection[int] = (),
        loras: LoraChoice = NO_LORAS,
    ) -> Running:
        """Hand a request in, after its body was read to its end.

        If the client hangs up, the job is given up, whether its events are read or not.

        Args:
            request: From `bounds.make_bounded_request`; its images are bytes, never texts.
            preview_steps: How many previews to make, or after which steps.
            loras: The LoRAs to use, from `service.loras.choose`.

        Raises:
            InputError: The request cannot be served.
            FieldError: The header `X-Request-Timeout` is not a number of seconds.
        """
        self.record.lora = None if loras == NO_LORAS else str(loras)
        return Running(self, request, preview_steps, loras)

    @property
    def deadline(self) -> float:
        """When the client's `X-Request-Timeout`, or else the server's limit, is over; on `time.monotonic()`.

        Raises:
            FieldError: The header is not a number of seconds.
        """
        limit = self.context.settings.request_timeout
        given = self.http_request.headers.get("x-request-timeout")
        if given is None:
            return self.record.arrived + limit
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
        return self.record.arrived + min(seconds, limit)


class Running:
    """A job that was handed in; see `Admitted.start_job`. Belongs to the event loop that made it."""

    def __init__(
        self,
        admitted: Admitted,
        request: PipelineRequest,
        preview_steps: int | Collection[int],
        loras: LoraChoice,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self._record = admitted.record
        job = admitted.context.service.submit(
            admitted.permit,
            request,
            self._hear,
            job_id=admitted.record.id,
            loras=loras,
            deadline=admitted.deadline,
            preview_steps=preview_steps,
        )
        watcher = self._loop.create_task(self._watch(admitted.http_request))
        self._ends = contextlib.ExitStack()
        self._ends.callback(job.cancel)
        self._ends.callback(watcher.cancel)

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

    async def result(self, output: Output) -> Encoded:
        """Wait for the end.

        Args:
            output: How images become files.

        Raises:
            InpaintError: The job failed, was cancelled, or its time was over.
        """
        finished = await self._finished()
        return Encoded(finished, await encode_images(finished.images, output))

    async def _finished(self) -> Finished:
        async with contextlib.aclosing(self.events()) as events:
            async for event in events:
                if isinstance(event, Finished):
                    return event
        raise AssertionError("the events ended without a result: this is a bug")

    def stream(
        self, output: Output, translate: Translate, translate_problem: Callable[[Problem], Message]
    ) -> StreamingResponse:
        """An answer of the events as they come, with a sign of life while the job waits in the queue.

        The package sse-starlette is not used: at import it replaces uvicorn's signal handler, and it ends
        running streams as soon as the server is asked to stop, where ours are to finish.

        Args:
            output: How images become files.
            translate: Events of the job to events of the stream.
            translate_problem: The last event of a job that failed.
        """
        parts = self._parts(output, translate, translate_problem)
        return StreamingResponse(parts, media_type="text/event-stream", headers=_STREAM_HEADERS)

    async def _parts(
        self, output: Output, translate: Translate, translate_problem: Callable[[Problem], Message]
    ) -> AsyncGenerator[bytes, None]:
        try:
            async with contextlib.aclosing(self.events(_SECONDS_BETWEEN_PINGS)) as events:
                async for event in events:
                    if isinstance(event, Waiting):
                        yield _PING
                    else:
                        async for encoded in encode_events(event, output):
                            if (message := translate(encoded)) is not None:
                                yield sse(*message)
        except Exception as error:  # noqa: BLE001  the status is sent: what is left to tell goes into the stream
            problem = problem_of(error)
            log_failure(error, problem, self._record.id)
            yield sse(*translate_problem(problem))

    def close(self) -> None:
        """Give the job up if it still runs, and keep nothing of it, whoever keeps this."""
        self._ends.close()
