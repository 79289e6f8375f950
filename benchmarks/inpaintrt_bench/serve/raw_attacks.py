"""Attacks that need every byte of a request: on paths, on framing, and on headers."""

from __future__ import annotations

import random

__all__ = ["framing", "traversal"]

_SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
_POST = b"POST /v1/inpaint HTTP/1.1\r\nContent-Type: application/json\r\n"
_HOST = b"Host: 127.0.0.1\r\n"
_PATHS = ("/ui", "/ui/static", "/v1", "/sdapi/v1", "", "/ui/gradio_api/file=")
_UP = ("/..", "/%2e%2e", "/..%2f", "/%2e%2e%2f", "/..%5c", "/....//", "/%252e%252e", "//", "/\\..")
_FILES = ("/etc/passwd", "etc/passwd", "/proc/self/environ", "/etc/passwd%00.png", "etc%2fpasswd")


def traversal(choice: random.Random) -> bytes:
    """Asks for a file outside what is served."""
    up = choice.choice(_UP) * choice.choice((1, 3, 8))
    path = choice.choice(_PATHS) + up + choice.choice(_FILES)
    method = choice.choice(("GET", "HEAD", "POST"))
    return f"{method} {path} HTTP/1.1\r\n".encode() + _HOST + b"Connection: close\r\n\r\n"


def framing(choice: random.Random) -> bytes:
    """A request that is not HTTP, or that two programs may read in two ways, and another one behind it."""
    chunks = b"0\r\n\r\n"
    return choice.choice(
        (
            _POST + _HOST + b"Content-Length: 72\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + _SMUGGLED,
            _POST + _HOST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n" + chunks + _SMUGGLED,
            _POST + _HOST + b"Content-Length: 5\r\nContent-Length: 72\r\n\r\n" + chunks + _SMUGGLED,
            _POST + _HOST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n" + _SMUGGLED,
            _POST + _HOST + b"Content-Length: +5\r\n\r\n" + chunks + _SMUGGLED,
            b"GET /info HTTP/1.1\r\nHost: [\r\n\r\n" + _SMUGGLED,
            b"GET /info HTTP/1.1\r\n" + _HOST * 2 + b"\r\n" + _SMUGGLED,
            b"GET /info HTTP/1.0\r\n\r\n" + _SMUGGLED,
            b"GET /info HTTP/1.1\r\n" + _HOST + b"X: y\r\n" * choice.choice((5000, 40_000)) + b"\r\n",
            b"GET /" + b"a" * choice.choice((30_000, 200_000)) + b" HTTP/1.1\r\n" + _HOST + b"\r\n",
            choice.randbytes(choice.randrange(1, 2000)) + b"\r\n\r\n",
        )
    )
