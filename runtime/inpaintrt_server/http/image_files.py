"""What kinds of image files are taken, and which of them take far longer to read than their size says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from inpaintrt.errors import InputError

__all__ = ["FORMATS", "check_file"]

# 20 MB of empty chunks took Pillow 15 s, before it knew the image's size.
_MAX_CHUNKS = 20_000
_CHUNK_OVERHEAD = 12
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# A scan of 51 bytes over 31 million pixels took libjpeg 32 ms; cameras write up to twelve.
_MAX_SCANS = 100
_START_OF_SCAN = b"\xff\xda"


def check_file(data: bytes, refusal: Callable[..., InputError]) -> None:
    """Check the format, and that the file has no more parts than images need, without a decoder.

    Args:
        data: The file.
        refusal: Makes the error to raise.

    Raises:
        InputError: What `refusal` makes.
    """
    name = _format_of(data)
    if name is None:
        raise refusal(
            "this is not an image, or of a format that is not taken",
            received=f"{len(data)} bytes",
            expected=" or ".join(FORMATS),
        )
    count, maximum, parts = _PARTS[name](data)
    if count > maximum:
        raise refusal(
            f"the image has more {parts} than images need",
            received=f"{count} or more",
            expected=f"at most {maximum}",
            hint="save the image again",
        )


def _format_of(data: bytes) -> str | None:
    if data.startswith(_PNG_SIGNATURE):
        return "PNG"
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    return "WebP" if data.startswith(b"RIFF") and data[8:12] == b"WEBP" else None


def _png_parts(data: bytes) -> tuple[int, int, str]:
    count, place = 0, len(_PNG_SIGNATURE)
    while place < len(data) and count <= _MAX_CHUNKS:
        count += 1
        if data[place + 4 : place + 8] == b"IEND":
            break
        place += int.from_bytes(data[place : place + 4], "big") + _CHUNK_OVERHEAD
    return count, _MAX_CHUNKS, "chunks"


def _jpeg_parts(data: bytes) -> tuple[int, int, str]:
    return data.count(_START_OF_SCAN), _MAX_SCANS, "scans"


def _webp_parts(_: bytes) -> tuple[int, int, str]:
    return 1, 1, "parts"


_PARTS: Mapping[str, Callable[[bytes], tuple[int, int, str]]] = MappingProxyType(
    {"PNG": _png_parts, "JPEG": _jpeg_parts, "WebP": _webp_parts}
)

FORMATS = tuple(_PARTS)
"""The formats that are taken. Pillow reads more, but decoders that nobody needs are a risk for nothing."""
