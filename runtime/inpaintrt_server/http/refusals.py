"""Why an HTTP request is refused before it becomes a job.

ServerError
└── RequestError
    ├── MalformedRequestError   not HTTP, or HTTP that two programs may read in two ways
    ├── MalformedBodyError      not the JSON or the form that it says it is
    ├── BodyTooLargeError       more bytes than the server takes
    ├── BodyTooSlowError        the body does not arrive in time
    ├── ImageTooLargeError      more pixels than the server takes
    ├── MediaTypeError          a content type that this path does not know
    ├── FieldError              a field that is unknown, missing or out of its range
    ├── NotFoundError           a path or a name that is not served here
    ├── UnauthorizedError       no key, or a wrong one
    ├── ForeignOriginError      a web page of somebody else speaks to a server that has no keys
    └── TooManyConnectionsError the connection has no place
"""

from __future__ import annotations

from inpaintrt_server.errors import ServerError

__all__ = [
    "BodyTooLargeError",
    "BodyTooSlowError",
    "FieldError",
    "ForeignOriginError",
    "ImageTooLargeError",
    "MalformedBodyError",
    "MalformedRequestError",
    "MediaTypeError",
    "NotFoundError",
    "RequestError",
    "TooManyConnectionsError",
    "UnauthorizedError",
]


class RequestError(ServerError):
    """An HTTP request is refused before it becomes a job."""


class MalformedRequestError(RequestError):
    """A request is not HTTP, or such that two programs may read it in two ways; its connection is closed."""


class MalformedBodyError(RequestError):
    """A body is not the JSON or the form that it says it is."""


class BodyTooLargeError(RequestError):
    """A body has more bytes than the server takes."""


class BodyTooSlowError(RequestError):
    """A body does not arrive in time."""


class ImageTooLargeError(RequestError):
    """An image has more pixels than the server takes.

    Args:
        what: One sentence.
        field: "image" or "mask".
        received: Its size.
        expected: The limit.
        hint: What to do about it.
    """

    def __init__(
        self,
        what: str,
        *,
        field: str = "image",
        received: object = None,
        expected: object = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(what, received=received, expected=expected, hint=hint)
        self.field = field


class MediaTypeError(RequestError):
    """A content type that this path does not know."""


class FieldError(RequestError):
    """A field is unknown, missing or out of its range.

    Args:
        what: One sentence.
        field: The field's name, as the client wrote it.
        received: The offending value.
        expected: What would have been right.
        hint: What to do about it.
    """

    def __init__(
        self,
        what: str,
        *,
        field: str,
        received: object = None,
        expected: object = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(what, received=received, expected=expected, hint=hint)
        self.field = field


class NotFoundError(RequestError):
    """A path or a name is not served here.

    Args:
        what: One sentence.
        field: The field that holds the name, as the client wrote it; None for a path.
        received: What was asked for.
        expected: What there is.
    """

    def __init__(
        self, what: str, *, field: str | None = None, received: object = None, expected: object = None
    ) -> None:
        super().__init__(what, received=received, expected=expected)
        self.field = field


class UnauthorizedError(RequestError):
    """A request brings no key, or a wrong one."""


class ForeignOriginError(RequestError):
    """A web page from elsewhere speaks to a server that has no keys."""


class TooManyConnectionsError(RequestError):
    """A connection has no place, so it may ask for the server's health alone; it is closed."""
