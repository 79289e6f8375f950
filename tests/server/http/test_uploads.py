"""Image files that are not taken, or would take a decoder for ever."""

import io
import struct
import zlib

import pytest
from PIL import Image

from inpaintrt.errors import ImageError, MaskError
from inpaintrt_server.http.uploads import check_upload
from server.uploads import SCENE, png_of

SIGNATURE = b"\x89PNG\r\n\x1a\n"


def _saved(kind: str, **settings: object) -> bytes:
    file = io.BytesIO()
    SCENE.image.save(file, kind, **settings)
    return file.getvalue()


def _chunk(kind: bytes, content: bytes = b"") -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _check(file: bytes) -> None:
    check_upload(file, "image", max_pixels=10**6)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "MPO"])
def test_what_is_taken(kind: str) -> None:
    _check(_saved(kind))


@pytest.mark.parametrize(
    "kind", ["GIF", "TIFF", "BMP", "PPM", "JPEG2000", "AVIF", "ICO", "TGA", "PDF", "EPS"]
)
def test_no_other_decoder_sees_a_file(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    file = _saved(kind)
    monkeypatch.setattr(Image, "open", None)
    with pytest.raises(ImageError, match="PNG or JPEG or WebP"):
        _check(file)
    with pytest.raises(MaskError):
        check_upload(file, "mask", max_pixels=10**6)


def test_a_png_of_countless_chunks_is_not_read() -> None:
    image = png_of(SCENE.image)
    header, rest = image[: len(SIGNATURE) + 25], image[len(SIGNATURE) + 25 :]
    _check(header + _chunk(b"tEXt", b"k\0") * 10_000 + rest)
    _check(image + bytes(1_000_000))
    with pytest.raises(ImageError, match="chunks"):
        _check(header + _chunk(b"abCD") * 100_000 + rest)


def test_a_jpeg_of_countless_scans_is_not_decoded() -> None:
    image = _saved("JPEG", progressive=True)
    _check(image)
    scan = image[image.rindex(b"\xff\xda") : -2]
    with pytest.raises(ImageError, match="scans"):
        _check(image[:-2] + scan * 100 + b"\xff\xd9")
