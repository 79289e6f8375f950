"""What goes wrong with a runner."""

from __future__ import annotations

from inpaintrt.errors import InpaintError

__all__ = ["RunnerError"]


class RunnerError(InpaintError):
    """A runner cannot start, died, or failed; the message says why in one line."""
