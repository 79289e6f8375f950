"""Clients that send requests and note what became of each.

An open loop sends at times that were drawn beforehand, whatever the server does, as many independent users
do; latency counts from the time drawn, so that a client that falls behind hides nothing. A closed loop keeps
a fixed number of requests in flight and so finds the capacity. Raw requests and floods of connections are
what an HTTP client does not send.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import random
import re
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx

from inpaintrt_bench.load.requests import Call

__all__ = [
    "FloodOutcome",
    "Loop",
    "Outcome",
    "RawAnswer",
    "Sent",
    "draw_arrivals",
    "flood_connections",
    "run_closed",
    "run_open",
    "run_together",
    "send_raw",
]

_CONNECT_TIMEOUT = 10.0
_OK = 200
_TIMEOUT = 30.0
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3}) ")
_PROBES = ("/healthz", "/readyz", "/metrics")


@dataclass(frozen=True)
class Outcome:
    """What became of one request. Times are seconds since the loop began.

    Attributes:
        call: Index of the call.
        scheduled: When it was to be sent.
        finished: When the answer, or the end of the connection, was there.
        status: The HTTP status; 0 where there was no answer.
        retry_after: Whether the answer said when to try again.
        digest: SHA-256 of the image; None where there is none.
        failure: Why there was no answer, or no image in it; None where all went well.
        hung_up: Whether this client went away on purpose.
    """

    call: int
    scheduled: float
    finished: float
    status: int = 0
    retry_after: bool = False
    digest: str | None = None
    failure: str | None = None
    hung_up: bool = False

    @property
    def latency(self) -> float:
        """Seconds from the scheduled time to the end."""
        return self.finished - self.scheduled


@dataclass(frozen=True)
class Loop:
    """What a client process needs to know.

    Attributes:
        url: The server's base URL.
        calls: What to send.
        key: The API key; None for none.
        timeout: Seconds after which a request without an answer counts as lost.
    """

    url: str
    calls: tuple[Call, ...]
    key: str | None = None
    timeout: float = 300.0


@dataclass(frozen=True)
class Sent:
    """What a loop did.

    Attributes:
        outcomes: Of each request, in the order of sending.
        images: Each different image by its digest.
        seconds: From the first scheduled request to the last answer.
    """

    outcomes: tuple[Outcome, ...]
    images: dict[str, bytes]
    seconds: float


def draw_arrivals(rate: float, seconds: float, seed: int | str) -> tuple[float, ...]:
    """Times of a Poisson process.

    Args:
        rate: Expected arrivals a second.
        seconds: Length of the process.
        seed: The same seed gives the same times.
    """
    random_source = random.Random(seed)  # noqa: S311  (a load need not be secret)
    times = []
    now = random_source.expovariate(rate)
    while now < seconds:
        times.append(now)
        now += random_source.expovariate(rate)
    return tuple(times)


def run_open(loop: Loop, arrivals: Sequence[float], seed: int | str, hang_ups: float = 0.0) -> Sent:
    """Send a call drawn at random at each of the times.

    Args:
        loop: Server and calls.
        arrivals: Seconds from the start.
        seed: What the choice of calls depends on.
        hang_ups: The share of clients that go away at a random time within their first second.
    """
    random_source = random.Random(seed)  # noqa: S311
    plan = [
        (when, random_source.randrange(len(loop.calls)), _patience(random_source, hang_ups))
        for when in arrivals
    ]
    return asyncio.run(_Clients(loop).run_plan(plan))


def run_closed(loop: Loop, clients: int, seconds: float) -> Sent:
    """Keep a number of requests in flight for some seconds, then wait for the last answers.

    Calls are sent in turn, so that long and short ones come in the mixture's own proportion.
    """
    return asyncio.run(_Clients(loop).run_closed(clients, seconds))


def run_together(loop: Loop) -> Sent:
    """Send every call once, all at the same time."""
    return asyncio.run(_Clients(loop).run_plan([(0.0, index, None) for index in range(len(loop.calls))]))


def _patience(random_source: random.Random, hang_ups: float) -> float | None:
    return random_source.random() if random_source.random() < hang_ups else None


class _Clients:
    """Many clients on one event loop, each with a connection of its own."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._images: dict[str, bytes] = {}
        self._started = 0.0

    async def run_plan(self, plan: Sequence[tuple[float, int, float | None]]) -> Sent:
        async def follow(client: httpx.AsyncClient) -> list[Outcome]:
            return await asyncio.gather(*(self._at(client, *entry) for entry in plan))

        return await self._with_client(follow)

    async def run_closed(self, clients: int, seconds: float) -> Sent:
        counter = iter(range(2**62))

        async def one_after_another(client: httpx.AsyncClient) -> list[Outcome]:
            outcomes = []
            while (now := self._now()) < seconds:
                index = next(counter) % len(self._loop.calls)
                outcomes.append(await self._send(client, index, now))
            return outcomes

        async def follow(client: httpx.AsyncClient) -> list[Outcome]:
            lists = await asyncio.gather(*(one_after_another(client) for _ in range(clients)))
            return sorted((one for some in lists for one in some), key=lambda outcome: outcome.scheduled)

        return await self._with_client(follow)

    async def _with_client(self, follow: Callable[[httpx.AsyncClient], Awaitable[list[Outcome]]]) -> Sent:
        headers = {"authorization": f"Bearer {self._loop.key}"} if self._loop.key else {}
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
        timeout = httpx.Timeout(self._loop.timeout, connect=_CONNECT_TIMEOUT)
        async with httpx.AsyncClient(
            base_url=self._loop.url, headers=headers, limits=limits, timeout=timeout, trust_env=False
        ) as client:
            self._started = time.perf_counter()
            outcomes = await follow(client)
            return Sent(tuple(outcomes), self._images, self._now())

    def _now(self) -> float:
        return time.perf_counter() - self._started

    async def _at(
        self, client: httpx.AsyncClient, when: float, index: int, patience: float | None
    ) -> Outcome:
        await asyncio.sleep(when - self._now())
        if patience is None:
            return await self._send(client, index, when)
        try:
            return await asyncio.wait_for(self._send(client, index, when), patience)
        except TimeoutError:
            return Outcome(index, when, self._now(), hung_up=True)

    async def _send(self, client: httpx.AsyncClient, index: int, scheduled: float) -> Outcome:
        call = self._loop.calls[index]
        try:
            answer = await client.post(call.path, content=call.body, headers=dict(call.headers))
        except httpx.TransportError as error:
            return Outcome(index, scheduled, self._now(), failure=f"{type(error).__name__}: {error}")
        finished = self._now()
        retry_after = "retry-after" in answer.headers
        if answer.status_code != _OK:
            return Outcome(index, scheduled, finished, answer.status_code, retry_after)
        digest, failure = self._keep(call, answer.content)
        return Outcome(index, scheduled, finished, answer.status_code, retry_after, digest, failure)

    def _keep(self, call: Call, content: bytes) -> tuple[str | None, str | None]:
        try:
            image = call.read_image(content)
        except (ValueError, LookupError, TypeError) as error:
            return None, f"no image in the answer: {error!r}"
        digest = hashlib.sha256(image).hexdigest()
        self._images.setdefault(digest, image)
        return digest, None


@dataclass(frozen=True)
class RawAnswer:
    """What came back until the server closed the connection.

    Attributes:
        status: Of the first answer; 0 where there was none.
        answers: How many answers came.
        content: All bytes.
    """

    status: int
    answers: int
    content: bytes


def send_raw(url: str, request: bytes) -> RawAnswer:
    """Send bytes, and read until the server closes the connection."""
    with _connect(url) as connection:
        with contextlib.suppress(OSError):
            connection.sendall(request)
        content = _read_all(connection)
    found = _STATUS.findall(content)
    return RawAnswer(int(found[0]) if found else 0, len(found), content)


def _connect(url: str) -> socket.socket:
    parts = urlsplit(url)
    return socket.create_connection((parts.hostname or "", parts.port or 80), timeout=_TIMEOUT)


def _read_all(connection: socket.socket) -> bytes:
    parts = []
    with contextlib.suppress(OSError):
        while part := connection.recv(2**16):
            parts.append(part)
    return b"".join(parts)


@dataclass(frozen=True)
class FloodOutcome:
    """What monitoring saw while more connections were open than the server takes.

    Attributes:
        connections: How many were opened.
        probes: How many probes were sent.
        failed: How many of them had no answer, or another than 200.
        refused: Whether all else was refused with 503.
    """

    connections: int
    probes: int
    failed: int
    refused: bool


def flood_connections(url: str, count: int) -> FloodOutcome:
    """Open idle connections, half of which have begun a request, and probe the server's health beside them.

    Args:
        url: The server.
        count: Connections, more than the server has places for.
    """
    with contextlib.ExitStack() as ends:
        for index in range(count):
            connection = ends.enter_context(_connect(url))
            if index % 2:
                # Those beyond the reserve make room, and are closed.
                with contextlib.suppress(OSError):
                    connection.sendall(b"GET /info HTTP/1.1\r\nHost:")
        statuses = [_probe(url + path) for path in _PROBES * 3]
        refused = _probe(f"{url}/info") == httpx.codes.SERVICE_UNAVAILABLE
    failed = sum(status != _OK for status in statuses)
    return FloodOutcome(count, len(statuses), failed, refused)


def _probe(url: str) -> int:
    try:
        return httpx.get(url, timeout=_TIMEOUT, trust_env=False).status_code
    except httpx.TransportError:
        return 0
