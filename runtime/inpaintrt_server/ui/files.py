"""The files of the page, read once: a name that a client sends is looked up, never opened."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from pathlib import PurePath

__all__ = ["StaticFile", "load_files"]

_MEDIA_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".png": "image/png",
    ".svg": "image/svg+xml",
}
_INDEX = "index.html"
_EXAMPLE = "example.png"


@dataclass(frozen=True)
class StaticFile:
    """A file of the page.

    Attributes:
        content: Its bytes.
        media_type: The value of `Content-Type`.
    """

    content: bytes
    media_type: str

    @cached_property
    def etag(self) -> str:
        """What tells this content from any other, as the header `ETag` has it."""
        return f'"{hashlib.sha256(self.content).hexdigest()[:32]}"'


def load_files() -> Mapping[str, StaticFile]:
    """The files of the page by name; the page itself has the empty name."""
    return {"" if name == _INDEX else name: file for name, file in _read_files()}


def _read_files() -> Iterator[tuple[str, StaticFile]]:
    for path in (resources.files("inpaintrt_server.ui") / "static").iterdir():
        yield path.name, _static_file(path.name, path.read_bytes())
    example = resources.files("inpaintrt") / "demo_assets" / "input.png"
    yield _EXAMPLE, _static_file(_EXAMPLE, example.read_bytes())


def _static_file(name: str, content: bytes) -> StaticFile:
    return StaticFile(content, _MEDIA_TYPES[PurePath(name).suffix])
