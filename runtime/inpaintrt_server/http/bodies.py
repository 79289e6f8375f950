"""Bodies as forms and JSON, with limits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

import anyio.to_thread
from pydantic import BaseModel, ValidationError
from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from inpaintrt_server.http.errors import field_error
from inpaintrt_server.http.refusals import MalformedBodyError, MediaTypeError

__all__ = ["Form", "checked", "content_type", "read_form", "read_json"]

_MOST_FIELDS = 64
_MOST_FILES = 16
_LARGEST_FIELD = 1024 * 1024
_CHARSETS = (b"utf-8", b"utf8", b"us-ascii")

_Model = TypeVar("_Model", bound=BaseModel)


@dataclass(frozen=True)
class Form:
    """The parts of a form, in the order of the body.

    Attributes:
        fields: The texts of each field.
        files: The contents of each file; file names and types of clients are not believed, so not kept.
    """

    fields: Mapping[str, tuple[str, ...]]
    files: Mapping[str, tuple[bytes, ...]]


def content_type(request: Request) -> str:
    """The media type of a body, without its parameters."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


class _MemoryParser(MultiPartParser):
    """Keeps every file in memory: bodies are bounded, and the disk may be full."""

    spool_max_size = 0  # A SpooledTemporaryFile takes this for "never".


async def read_form(request: Request) -> Form:
    """Read a `multipart/form-data` body; nothing of it is written to the disk.

    Raises:
        MediaTypeError: The body is of another type, or in another encoding than UTF-8.
        MalformedBodyError: The form is damaged or has too many parts.
        RequestError: The body is too large or too slow.
    """
    if content_type(request) != "multipart/form-data":
        raise MediaTypeError(
            "this path takes forms",
            received=content_type(request) or "no content type",
            expected="multipart/form-data",
        )
    _check_charset(request)
    fields: dict[str, tuple[str, ...]] = {}
    files: dict[str, tuple[bytes, ...]] = {}
    for name, value in (await _parse_form(request)).multi_items():
        if isinstance(value, UploadFile):
            files[name] = (*files.get(name, ()), await value.read())
            await value.close()
        else:
            fields[name] = (*fields.get(name, ()), value)
    return Form(fields, files)


def _check_charset(request: Request) -> None:
    """Python has encodings whose decoding takes time that grows with the square of the length."""
    _, parameters = parse_options_header(request.headers.get("content-type"))
    charset = parameters.get(b"charset", b"utf-8")
    if charset.lower() not in _CHARSETS:
        raise MediaTypeError(
            "forms are read as UTF-8", received=f"charset {charset.decode('latin-1')}", expected="utf-8"
        )


async def _parse_form(request: Request) -> FormData:
    parser = _MemoryParser(
        request.headers,
        request.stream(),
        max_files=_MOST_FILES,
        max_fields=_MOST_FIELDS,
        max_part_size=_LARGEST_FIELD,
    )
    try:
        return await parser.parse()
    except MultiPartException as error:
        raise MalformedBodyError(error.message) from error


async def read_json(request: Request, model: type[_Model]) -> _Model:
    """Read an `application/json` body into a model.

    Raises:
        MediaTypeError: The body is of another type.
        MalformedBodyError: It is not JSON.
        FieldError: A field is unknown, missing or not valid.
        RequestError: The body is too large or too slow.
    """
    if content_type(request) != "application/json":
        raise MediaTypeError(
            "this path takes JSON",
            received=content_type(request) or "no content type",
            expected="application/json",
        )
    # Not `request.body()`, which keeps the bytes for as long as there is the request.
    body = b"".join([part async for part in request.stream()])
    return await anyio.to_thread.run_sync(lambda: _parse(body, model))


def _parse(body: bytes, model: type[_Model]) -> _Model:
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        details = error.errors(include_url=False)[0]
        if details["type"] == "json_invalid":
            raise MalformedBodyError("the body is not JSON", received=details["msg"]) from None
        raise field_error(details) from None


def checked(model: type[_Model], values: Mapping[str, object]) -> _Model:
    """A model of values that came as texts.

    Raises:
        FieldError: A field is unknown, missing or not valid.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise field_error(error.errors(include_url=False)[0]) from None
