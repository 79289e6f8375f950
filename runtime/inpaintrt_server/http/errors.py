"""The one table from exceptions to HTTP: status, code, and what the client gets to read.

Every interface answers with these, unless its clients know other ones (`Api.adapt`); the JSON around them
differs, and that is a function of a `Problem`, see `Shape`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from dataclasses import field as attribute
from http import HTTPStatus
from typing import Any, TypeAlias

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse

from inpaintrt.errors import (
    EngineError,
    EngineMemoryError,
    ImageError,
    InpaintError,
    InputError,
    MaskError,
    ParameterError,
    PromptError,
    SchedulerError,
)
from inpaintrt_server.errors import (
    CancelledError,
    DeadlineError,
    DrainingError,
    EngineLostError,
    ModelBusyError,
    ModelLoadError,
    QueueFullError,
)
from inpaintrt_server.http.refusals import (
    BodyTooLargeError,
    BodyTooSlowError,
    FieldError,
    ForeignOriginError,
    ImageTooLargeError,
    MalformedBodyError,
    MalformedRequestError,
    MediaTypeError,
    NotFoundError,
    TooManyConnectionsError,
    UnauthorizedError,
)

__all__ = [
    "CLIENT_CLOSED_REQUEST",
    "Problem",
    "Shape",
    "field_error",
    "log_failure",
    "own_shape",
    "problem_of",
    "respond",
]

_log = logging.getLogger("inpaintrt.server")

# Nobody reads this answer: it is for the log, as nginx writes it.
CLIENT_CLOSED_REQUEST = 499

_TABLE: Mapping[type[Exception], tuple[int, str]] = {
    ImageError: (400, "invalid_image"),
    MaskError: (400, "invalid_mask"),
    MalformedRequestError: (400, "malformed_request"),
    MalformedBodyError: (400, "malformed_body"),
    UnauthorizedError: (401, "unauthorized"),
    ForeignOriginError: (403, "foreign_origin"),
    NotFoundError: (404, "not_found"),
    BodyTooSlowError: (408, "body_too_slow"),
    BodyTooLargeError: (413, "body_too_large"),
    ImageTooLargeError: (413, "image_too_large"),
    MediaTypeError: (415, "unsupported_media_type"),
    FieldError: (422, "invalid_field"),
    PromptError: (422, "invalid_prompt"),
    SchedulerError: (422, "unknown_sampler"),
    ParameterError: (422, "invalid_parameter"),
    InputError: (422, "invalid_input"),
    QueueFullError: (429, "queue_full"),
    ClientDisconnect: (CLIENT_CLOSED_REQUEST, "client_closed_request"),
    CancelledError: (CLIENT_CLOSED_REQUEST, "cancelled"),
    EngineError: (500, "engine_failed"),
    EngineMemoryError: (503, "out_of_memory"),
    ModelLoadError: (503, "model_failed"),
    ModelBusyError: (503, "model_busy"),
    EngineLostError: (503, "engine_lost"),
    DrainingError: (503, "draining"),
    TooManyConnectionsError: (503, "too_many_connections"),
    DeadlineError: (504, "deadline_exceeded"),
}
_INTERNAL = (500, "internal_error")
# Chromium only asks for a password where Basic comes first.
_CHALLENGE = 'Basic realm="inpaintrt", Bearer realm="inpaintrt"'
_RETRY_WHEN_STOPPING = 5
_RETRY_WHEN_CROWDED = 1
_RETRY_WHEN_BUSY = 5
_CLOSE = {"Connection": "close"}
_LONGEST_VALUE = 2000


@dataclass(frozen=True)
class Problem:
    """What went wrong, as a client gets to read it.

    Attributes:
        status: The HTTP status.
        code: One word for programs; the second column of the table.
        message: One sentence for people.
        received: What was wrong; None where there is nothing to tell.
        expected: What would have been right.
        what_to_do: What to do about it.
        field: The field that is wrong, where one is.
        headers: Headers of the answer.
    """

    status: int
    code: str
    message: str
    received: str | None = None
    expected: str | None = None
    what_to_do: str | None = None
    field: str | None = None
    headers: Mapping[str, str] = attribute(default_factory=dict)

    def in_one_line(self) -> str:
        """What is wrong, what was received, what was expected, and what to do; for errors of one text."""
        details = (
            ("received", self.received),
            ("expected", self.expected),
            ("what to do", self.what_to_do),
        )
        return "; ".join([self.message, *(f"{name}: {text}" for name, text in details if text is not None)])


Shape: TypeAlias = Callable[[Problem], Mapping[str, Any]]
"""The JSON that one interface wraps a problem in."""


def own_shape(problem: Problem) -> Mapping[str, Any]:
    """The JSON of our own interface: `{"error": {code, message, received, expected, what_to_do, field}}`."""
    names = ("code", "message", "received", "expected", "what_to_do", "field")
    return {"error": {name: getattr(problem, name) for name in names}}


def problem_of(error: Exception) -> Problem:
    """The problem that describes an exception to a client.

    Of an engine's failure and of anything unforeseen it holds the kind only; the log has the rest.
    """
    if isinstance(error, RequestValidationError):
        return problem_of(field_error(error.errors()[0]))
    if isinstance(error, HTTPException):
        return _plain_problem(error)
    status, code = next((_TABLE[kind] for kind in type(error).__mro__ if kind in _TABLE), _INTERNAL)
    if not isinstance(error, InpaintError):
        told = "the client hung up" if status == CLIENT_CLOSED_REQUEST else "the server failed"
        return Problem(status, code, told)
    if isinstance(error, EngineError) or status == _INTERNAL[0]:
        return Problem(status, code, error.what)
    return Problem(
        status,
        code,
        _shortened(error.what),
        received=_text(error.received),
        expected=_text(error.expected),
        what_to_do=error.hint,
        field=_text(_field_of(error)),
        headers=_headers(error),
    )


def log_failure(error: Exception, problem: Problem, request_id: str) -> None:
    """Log what failed inside, with its traceback; what was refused is in the access log alone."""
    if problem.status == _INTERNAL[0]:
        _log.error("a request failed", exc_info=error, extra={"request_id": request_id})


def _field_of(error: InpaintError) -> str | None:
    return error.parameter if isinstance(error, InputError) else getattr(error, "field", None)


def _headers(error: InpaintError) -> Mapping[str, str]:
    match error:
        case QueueFullError():
            return {"Retry-After": str(max(1, round(error.retry_after)))}
        case ModelBusyError():
            return {"Retry-After": str(_RETRY_WHEN_BUSY)}
        case DrainingError():
            return {"Retry-After": str(_RETRY_WHEN_STOPPING)}
        case TooManyConnectionsError():
            return {"Retry-After": str(_RETRY_WHEN_CROWDED), **_CLOSE}
        case MalformedRequestError():
            return _CLOSE
        case UnauthorizedError():
            return {"WWW-Authenticate": _CHALLENGE}
        case _:
            return {}


def _plain_problem(error: HTTPException) -> Problem:
    """What the framework itself refuses: unknown paths and wrong methods."""
    code = {400: "malformed_body"}.get(error.status_code)
    code = code or HTTPStatus(error.status_code).name.lower()
    headers = dict(error.headers or {})
    if "Allow" in headers:
        headers["Allow"] = _with_head(headers["Allow"])
    return Problem(error.status_code, code, str(error.detail), headers=headers)


def _with_head(methods: str) -> str:
    """Where GET is allowed, so is HEAD."""
    allowed = {method.strip() for method in methods.split(",")}
    return ", ".join(sorted(allowed | {"HEAD"} if "GET" in allowed else allowed))


def field_error(details: Mapping[str, Any]) -> FieldError:
    """The first complaint of a pydantic model, in our words.

    Args:
        details: One of `ValidationError.errors()`.
    """
    parts = [part for part in details["loc"] if part not in ("body", "query", "header")]
    # Behind the name come indices, and pydantic's own names for the branches of a choice.
    place = ".".join(str(part) for part in parts[:1] + [part for part in parts[1:] if isinstance(part, int)])
    missing = details["type"] == "missing"
    if details["type"] == "extra_forbidden":
        return FieldError(f"this server does not have the field {place!r}", field=place)
    return FieldError(
        f"the field {place!r} is {'missing' if missing else 'not valid'}"
        if place
        else "the body is not valid",
        field=place or "body",
        received=None if missing else repr(details.get("input")),
        expected=str(details["msg"]),
    )


def _text(value: object) -> str | None:
    return None if value is None else _shortened(str(value))


def _shortened(text: str) -> str:
    shown = text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}..."
    return shown.encode("utf-8", "backslashreplace").decode("utf-8")


def respond(problem: Problem, shape: Shape) -> JSONResponse:
    """The answer that tells a client of a problem."""
    return JSONResponse(shape(problem), status_code=problem.status, headers=dict(problem.headers))
