"""What every request of one server shares."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from anyio import CapacityLimiter
from starlette.requests import HTTPConnection

if TYPE_CHECKING:
    from collections.abc import Sequence

    from inpaintrt_server.batching.service import BatchingService
    from inpaintrt_server.http.api import Api
    from inpaintrt_server.http.connections import Connections
    from inpaintrt_server.http.keys import KeyRing
    from inpaintrt_server.http.metrics import Metrics
    from inpaintrt_server.settings import ServerSettings

__all__ = ["Context", "context_of"]

_IMAGES_AT_A_TIME = 2


@dataclass(frozen=True)
class Context:
    """What every request of one server shares.

    Attributes:
        service: Runs requests.
        settings: Every option.
        keys: Who may enter.
        metrics: Figures.
        apis: The interfaces.
        connections: The open connections.
        image_threads: Limiter of the threads for work on images, so that few requests hold decoded images.
        started: When the server was made, on `time.time()`.
    """

    service: BatchingService
    settings: ServerSettings
    keys: KeyRing
    metrics: Metrics
    apis: Sequence[Api]
    connections: Connections
    image_threads: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(_IMAGES_AT_A_TIME))
    started: float = field(default_factory=time.time)


def context_of(connection: HTTPConnection) -> Context:
    """The context of the server that serves a request."""
    context: Context = connection.app.state.context
    return context
