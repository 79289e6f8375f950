"""Requests as bytes, and floods of connections: what an HTTP client does not send."""

from __future__ import annotations

import contextlib
import re
import socket
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx

__all__ = ["FloodOutcome", "RawAnswer", "flood_connections", "send_raw"]

_TIMEOUT = 30.0
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3}) ")
_PROBES = ("/healthz", "/readyz", "/metrics")
_OK = 200


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
