"""Images that clients send: bytes that are checked before anything is decoded.

A text from a client never becomes an image by itself: the runtime would read it as the path of a file.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from typing import Literal

from inpaintrt.errors import ImageError, MaskError
from inpaintrt.images import image_size
from inpaintrt_server.http.image_files import check_file
from inpaintrt_server.http.refusals import ImageTooLargeError

__all__ = ["Upload", "check_upload", "decode_base64"]

_DATA_URL = re.compile(r"data:[a-z0-9.+/-]*;base64,", re.IGNORECASE)
_LONGEST_PREFIX = 100


@dataclass(frozen=True)
class Upload:
    """An image's file, whose header was read.

    Attributes:
        data: The file.
        width: In pixels, as stored; an image that lies on its side is turned later.
        height: In pixels, as stored.
    """

    data: bytes
    width: int
    height: int

    @property
    def pixels(self) -> int:
        """How many pixels it has."""
        return self.width * self.height


def decode_base64(text: str, role: Literal["image", "mask"] = "image") -> bytes:
    """The bytes of a base64 text, or of a `data:` URL; no other URL is looked at.

    Raises:
        ImageError: It is not base64.
        MaskError: It is not base64, and a mask.
    """
    prefix = _DATA_URL.match(text[:_LONGEST_PREFIX])
    payload = text[prefix.end() :] if prefix else text
    try:
        return base64.b64decode(payload.encode("ascii"), validate=True)
    except (UnicodeEncodeError, binascii.Error) as error:
        raise _refusal(role)(
            f"the {role} is not base64",
            received=repr(text[:40]),
            expected="the base64 of an image file",
            hint="paths and web addresses are not opened: send the file itself",
        ) from error


def check_upload(data: bytes, role: Literal["image", "mask"], *, max_pixels: int) -> Upload:
    """Check the header of an image.

    Args:
        data: The file.
        role: What the image is for; decides which error is raised.
        max_pixels: Maximum number of pixels.

    Raises:
        ImageError: This is not an image, or of a format that is not taken.
        MaskError: The same of a mask.
        ImageTooLargeError: It has too many pixels.
    """
    check_file(data, _refusal(role))
    width, height = image_size(data, refusal=_refusal(role))
    if width * height > max_pixels:
        raise ImageTooLargeError(
            f"the {role} has too many pixels",
            field=role,
            received=f"{width} x {height}",
            expected=f"at most {max_pixels} pixels",
            hint="make it smaller",
        )
    return Upload(data, width, height)


def _refusal(role: Literal["image", "mask"]) -> type[ImageError] | type[MaskError]:
    return ImageError if role == "image" else MaskError
