"""Bodies as forms and JSON, with limits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import anyio.to_thread
from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from inpaintrt_server.http.errors import field_error
from inpaintrt_server.http.forms import Form, FormParser
from inpaintrt_server.http.refusals import MalformedBodyError, MediaTypeError

__all__ = ["checked", "read_body", "read_form", "read_json"]

_Model = TypeVar("_Model", bound=BaseModel)


async def read_body(request: Request, model: type[_Model]) -> _Model | Form:
    """Read a body that is JSON or a form.

    Raises:
        MediaTypeError: The body is of another type.
        MalformedBodyError: The body is damaged, or the form has too many parts.
        FieldError: A field of the JSON is unknown, missing or not valid.
        RequestError: The body is too large or too slow.
    """
    match _content_type(request):
        case "application/json":
            return await read_json(request, model)
        case "multipart/form-data":
            return await read_form(request)
        case other:
            raise MediaTypeError(
                "this path takes forms and JSON",
                received=other or "no content type",
                expected="multipart/form-data or application/json",
            )


def _content_type(request: Request) -> str:
    """The media type of a body, without its parameters."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def read_form(request: Request) -> Form:
    """Read a `multipart/form-data` body; nothing of it is written to the disk.

    Raises:
        MediaTypeError: The body is of another type, or in another encoding than UTF-8.
        MalformedBodyError: The form is damaged or has too many parts.
        RequestError: The body is too large or too slow.
    """
    if _content_type(request) != "multipart/form-data":
        raise MediaTypeError(
            "this path takes forms",
            received=_content_type(request) or "no content type",
            expected="multipart/form-data",
        )
    parser = FormParser(request.headers["content-type"])
    async for part in request.stream():
        parser.feed(part)
    return parser.form()


async def read_json(request: Request, model: type[_Model]) -> _Model:
    """Read an `application/json` body into a model.

    Raises:
        MediaTypeError: The body is of another type.
        MalformedBodyError: It is not JSON.
        FieldError: A field is unknown, missing or not valid.
        RequestError: The body is too large or too slow.
    """
    if _content_type(request) != "application/json":
        raise MediaTypeError(
            "this path takes JSON",
            received=_content_type(request) or "no content type",
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
