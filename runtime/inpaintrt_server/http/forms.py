"""Forms as they arrive. Everything stays in memory, which limits of bodies bound: the disk may be full."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from inpaintrt_server.http.refusals import MalformedBodyError, MediaTypeError

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

__all__ = ["Form", "FormParser"]

_Value = TypeVar("_Value")

_MAX_FIELDS = 64
_MAX_FILES = 16
_LARGEST_FIELD = 1024 * 1024
# Python has encodings that take a time which grows with the square of the text, so nobody may choose one.
_CHARSETS = (b"utf-8", b"utf8", b"us-ascii")


@dataclass(frozen=True)
class Form:
    """The parts of a form, in the order of the body.

    Attributes:
        fields: The texts of each field.
        files: The contents of each file; file names and types of clients are not believed, so not kept.
    """

    fields: Mapping[str, tuple[str, ...]]
    files: Mapping[str, tuple[bytes, ...]]


@dataclass
class _Part:
    """A part that is being read."""

    header: bytearray = field(default_factory=bytearray)
    value: bytearray = field(default_factory=bytearray)
    disposition: bytes = b""
    name: str = ""
    is_file: bool = False
    content: bytearray = field(default_factory=bytearray)


class FormParser:
    """Reads a `multipart/form-data` body piece by piece.

    Args:
        content_type: The header of that name.

    Raises:
        MalformedBodyError: The header names no boundary, or an impossible one.
        MediaTypeError: The header names another encoding than UTF-8.
    """

    def __init__(self, content_type: str) -> None:
        _, parameters = parse_options_header(content_type)
        _check_charset(parameters.get(b"charset", b"utf-8"))
        if b"boundary" not in parameters:
            raise MalformedBodyError("the form has no boundary", received=content_type)
        self._fields: list[tuple[str, str]] = []
        self._files: list[tuple[str, bytes]] = []
        self._part = _Part()
        self._complete = False
        try:
            self._parser = MultipartParser(parameters[b"boundary"], self._callbacks())
        except FormParserError as error:
            raise MalformedBodyError("the form has no usable boundary", received=str(error)) from error

    def feed(self, data: bytes) -> None:
        """Read on.

        Raises:
            MalformedBodyError: The form is damaged, or has too many or too large parts.
        """
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise MalformedBodyError("the form is damaged", received=str(error)) from error

    def form(self) -> Form:
        """The parts.

        Raises:
            MalformedBodyError: The body ended before the form did.
        """
        if not self._complete:
            raise MalformedBodyError("the form ends in the middle", expected="its last boundary")
        return Form(_grouped(self._fields), _grouped(self._files))

    def _callbacks(self) -> MultipartCallbacks:
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._read_header,
            "on_header_value": self._read_value,
            "on_header_end": self._end_header,
            "on_headers_finished": self._end_headers,
            "on_part_data": self._read_content,
            "on_part_end": self._end,
            "on_end": self._end_form,
        }

    def _begin(self) -> None:
        self._part = _Part()

    def _read_header(self, data: bytes, start: int, end: int) -> None:
        self._part.header += data[start:end]

    def _read_value(self, data: bytes, start: int, end: int) -> None:
        self._part.value += data[start:end]

    def _end_header(self) -> None:
        if self._part.header.lower() == b"content-disposition":
            self._part.disposition = bytes(self._part.value)
        self._part.header.clear()
        self._part.value.clear()

    def _end_headers(self) -> None:
        _, options = parse_options_header(self._part.disposition)
        if b"name" not in options:
            raise MalformedBodyError(
                "a part of the form has no name", expected="Content-Disposition: name=..."
            )
        self._part.name = _text(options[b"name"])
        self._part.is_file = b"filename" in options
        parts, maximum, kind = (
            (self._files, _MAX_FILES, "files")
            if self._part.is_file
            else (self._fields, _MAX_FIELDS, "fields")
        )
        if len(parts) >= maximum:
            raise MalformedBodyError(f"the form has too many {kind}", expected=f"at most {maximum}")

    def _read_content(self, data: bytes, start: int, end: int) -> None:
        self._part.content += data[start:end]
        if not self._part.is_file and len(self._part.content) > _LARGEST_FIELD:
            raise MalformedBodyError(
                "a field of the form is too large",
                received=f"{self._part.name}: {len(self._part.content)} bytes or more",
                expected=f"at most {_LARGEST_FIELD}",
            )

    def _end(self) -> None:
        part = self._part
        if part.is_file:
            self._files.append((part.name, bytes(part.content)))
        else:
            self._fields.append((part.name, _text(part.content)))
        part.content.clear()

    def _end_form(self) -> None:
        self._complete = True


def _check_charset(charset: bytes) -> None:
    if charset.lower() not in _CHARSETS:
        raise MediaTypeError(
            "forms are read as UTF-8", received=f"charset {charset.decode('latin-1')}", expected="utf-8"
        )


def _text(data: bytes | bytearray) -> str:
    """Browsers send UTF-8; what is something else is shown as it is, byte by byte."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _grouped(parts: list[tuple[str, _Value]]) -> Mapping[str, tuple[_Value, ...]]:
    groups: dict[str, tuple[_Value, ...]] = {}
    for name, value in parts:
        groups[name] = (*groups.get(name, ()), value)
    return groups
