"""What the server knows of an HTTP request while it serves it."""

from __future__ import annotations

import re
import time
import uuid
from dataclasses import dataclass, field

from starlette.requests import HTTPConnection
from starlette.types import Scope

from inpaintrt_server.batching.events import JobTimings
from inpaintrt_server.http.api import Api

__all__ = ["RequestRecord", "choose_id", "find_record", "keep", "record_of"]

_KEY = "inpaintrt_record"
_VALID_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


@dataclass
class RequestRecord:
    """What ends up in the log, the metrics and the headers of one request.

    Attributes:
        id: The request's id, the client's own where it sent a valid one.
        api: The interface that the path belongs to.
        arrived: When its headers had arrived, on `time.monotonic()`.
        status: The HTTP status; 0 while there is none.
        code: The code of the problem, where there was one.
        timings: Where the time of its job went, once that is known.
        lora: The LoRAs that its job uses; None for none.
        received: Bytes of the body that have arrived.
        sent: Bytes of the answer that were handed to the socket.
    """

    id: str
    api: Api
    arrived: float = field(default_factory=time.monotonic)
    status: int = 0
    code: str | None = None
    timings: JobTimings | None = None
    lora: str | None = None
    received: int = 0
    sent: int = 0


def choose_id(wanted: str | None) -> str:
    """The client's `X-Request-Id` where it is 1 to 64 letters, digits, dots, dashes; else a new one."""
    return wanted if wanted and _VALID_ID.fullmatch(wanted) else uuid.uuid4().hex


def keep(scope: Scope, record: RequestRecord) -> None:
    """Attach a record to the request."""
    scope.setdefault("state", {})[_KEY] = record


def find_record(scope: Scope) -> RequestRecord | None:
    """The record of a request; None for what is no request."""
    found: RequestRecord | None = scope.get("state", {}).get(_KEY)
    return found


def record_of(connection: HTTPConnection) -> RequestRecord:
    """The record of a request."""
    record: RequestRecord = connection.scope["state"][_KEY]
    return record
