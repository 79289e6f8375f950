"""Images that are not what they say: damaged, truncated, enormous, or two files in one."""

from __future__ import annotations

import io
import random
import struct
import zlib
from collections.abc import Callable, Sequence
from typing import Any

from PIL import Image

from inpaintrt.demo import load_scene

__all__ = [
    "bomb",
    "countless_parts",
    "damage",
    "of_another_size",
    "polyglot",
    "sample_images",
    "truncate",
    "white_mask",
]

_SIDE = 64
_FORMATS: Sequence[tuple[str, str, dict[str, Any]]] = (
    ("PNG", "RGB", {}),
    ("PNG", "RGBA", {}),
    ("PNG", "P", {}),
    ("PNG", "I;16", {}),
    ("JPEG", "RGB", {"quality": 90}),
    ("JPEG", "CMYK", {}),
    ("JPEG", "L", {"progressive": True}),
    ("WEBP", "RGB", {"lossless": True}),
    ("WEBP", "RGBA", {"quality": 80}),
    ("GIF", "P", {}),
    ("BMP", "RGB", {}),
    ("TIFF", "RGB", {"compression": "tiff_lzw"}),
    ("TIFF", "RGB", {"compression": "jpeg"}),
    ("PPM", "RGB", {}),
    ("JPEG2000", "RGB", {}),
    ("AVIF", "RGB", {"speed": 10}),
)


def sample_images() -> tuple[bytes, ...]:
    """Sound files of many formats and modes, of which the server takes some."""
    scene = load_scene().image.resize((_SIDE, _SIDE))
    return tuple(_saved(scene, kind, mode, settings) for kind, mode, settings in _FORMATS)


def _saved(scene: Image.Image, kind: str, mode: str, settings: dict[str, Any]) -> bytes:
    file = io.BytesIO()
    converted = scene.convert("L").convert(mode) if mode == "I;16" else scene.convert(mode)
    converted.save(file, kind, **settings)
    return file.getvalue()


def damage(file: bytes, choice: random.Random) -> bytes:
    """Change a file in a few places: bits, bytes, runs that are lost or repeated, sizes in its header."""
    changed = bytearray(file)
    for _ in range(choice.choice((1, 1, 2, 4, 16, 64))):
        choice.choice(_CHANGES)(changed, choice)
    return bytes(changed)


def _flip(file: bytearray, choice: random.Random) -> None:
    file[choice.randrange(len(file))] ^= 1 << choice.randrange(8)


def _overwrite(file: bytearray, choice: random.Random) -> None:
    start = choice.randrange(len(file))
    length = min(choice.choice((1, 2, 4, 16, 256)), len(file) - start)
    file[start : start + length] = choice.choice((bytes(length), b"\xff" * length, choice.randbytes(length)))


def _lose(file: bytearray, choice: random.Random) -> None:
    start = choice.randrange(len(file))
    remaining = file[:start] + file[start + choice.randrange(1, 64) :]
    file[:] = remaining or file


def _repeat(file: bytearray, choice: random.Random) -> None:
    start = choice.randrange(len(file))
    file[start:start] = file[start : start + choice.randrange(1, 512)]


def _inflate_header(file: bytearray, choice: random.Random) -> None:
    """A large number somewhere in the first bytes, where formats keep sizes and counts."""
    start = choice.randrange(min(len(file), 64))
    number = choice.choice((2**31 - 1, 2**32 - 1, 65535, 65536, 30000, 0))
    file[start : start + 4] = struct.pack(choice.choice(("<I", ">I")), number)


_CHANGES: Sequence[Callable[[bytearray, random.Random], None]] = (
    *(_flip, _overwrite, _lose, _repeat, _inflate_header),
)


def truncate(file: bytes, choice: random.Random) -> bytes:
    """The beginning of a file, less than half of it."""
    return file[: choice.randrange(len(file) // 2)]


def polyglot(files: Sequence[bytes], choice: random.Random) -> bytes:
    """The beginning of one file and the whole of another, or a page or a program before an image."""
    first, second = choice.choice(files), choice.choice(files)
    before = (
        first[: choice.randrange(1, 16)],
        b"<html><script>alert(1)</script>",
        b"#!/bin/sh\n",
        b"%!PS-Adobe-3.0 EPSF-3.0\n(/etc/passwd) run\n",
        b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>",
        b"PK\x03\x04",
        b"%PDF-1.7\n",
    )
    return choice.choice(before) + second


def bomb(choice: random.Random) -> bytes:
    """A small file that says, or really holds, far more pixels than anybody wants to decode."""
    side = choice.choice((20_000, 40_000, 65_535, 2**31 - 1))
    rows = min(side, 4096)
    content = zlib.compress(bytes((min(side, 65_535) // 8 + 2) * min(rows, 512)), 9)
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", content) + _chunk(b"IEND", b"")


def countless_parts(choice: random.Random) -> bytes:
    """A PNG of chunks without content, or a JPEG of scans that change nothing."""
    scene = load_scene().image.resize((_SIDE, _SIDE))
    if choice.choice((True, False)):
        file = _saved(scene, "PNG", "RGB", {})
        header = file.index(b"IDAT") - 4
        return file[:header] + _chunk(b"abCD", b"") * 100_000 + file[header:]
    file = _saved(scene, "JPEG", "L", {"progressive": True})
    return file[:-2] + file[file.rindex(b"\xff\xda") : -2] * 5000 + file[-2:]


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def white_mask() -> bytes:
    """A mask of the images' size that has everything painted."""
    file = io.BytesIO()
    Image.new("L", (_SIDE, _SIDE), 255).save(file, "PNG")
    return file.getvalue()


def of_another_size(choice: random.Random) -> bytes:
    """A sound mask that does not fit the image."""
    width, height = (choice.choice((1, 7, 63, 65, 128, 500)) for _ in range(2))
    file = io.BytesIO()
    Image.new("L", (width, height), 255).save(file, "PNG")
    return file.getvalue()
