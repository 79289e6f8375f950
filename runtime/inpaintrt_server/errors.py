"""Why a server refuses a request, or gives one up, beyond what the runtime's errors say.

InpaintError
└── ServerError
    ├── RefusedError            the request was not taken in
    │   ├── QueueFullError      the queue is full; try again
    │   └── DrainingError       the server is stopping
    ├── DeadlineError           the request's time is over
    ├── CancelledError          the client gave the request up
    ├── ModelBusyError          there is no memory for the model beside those in use; try again
    ├── ModelLoadError          the model cannot be loaded
    └── EngineLostError         the engine is gone; the process has to be started again
"""

from __future__ import annotations

from inpaintrt.errors import InpaintError

__all__ = [
    "CancelledError",
    "DeadlineError",
    "DrainingError",
    "EngineLostError",
    "ModelBusyError",
    "ModelLoadError",
    "QueueFullError",
    "RefusedError",
    "ServerError",
]


class ServerError(InpaintError):
    """The server cannot do what it was asked for."""


class RefusedError(ServerError):
    """A request was not taken in."""


class QueueFullError(RefusedError):
    """The queue is full.

    Args:
        what: One sentence.
        retry_after: Seconds after which a place is likely to be free.
        received: How many requests there are.
        expected: How many fit.
    """

    def __init__(
        self, what: str, *, retry_after: float, received: object = None, expected: object = None
    ) -> None:
        super().__init__(what, received=received, expected=expected, hint=f"try again in {retry_after:.0f} s")
        self.retry_after = retry_after


class DrainingError(RefusedError):
    """The server is stopping and takes nothing new in."""


class DeadlineError(ServerError):
    """The time that a request was given is over."""


class CancelledError(ServerError):
    """The client gave the request up."""


class ModelBusyError(ServerError):
    """There is no memory for a model beside those that are in use."""


class ModelLoadError(ServerError):
    """A model cannot be loaded; the log has the reason."""


class EngineLostError(ServerError):
    """The engine failed for good."""
