"""Telling a caller how far an export is."""

from __future__ import annotations

from typing import Protocol

__all__ = ["Progress", "silent"]


class Progress(Protocol):
    """Called at the beginning of every stage, and within a stage whose length is known."""

    def __call__(self, stage: str, fraction: float | None) -> None:
        """Take note.

        Args:
            stage: What is being done, e.g. "denoiser: tracing".
            fraction: How much lies behind, in [0, 1], of the download or of the export, each of which counts
                from 0; None where that is unknown.
        """
        ...


def silent(stage: str, fraction: float | None) -> None:
    """The progress of a caller who wants none."""
