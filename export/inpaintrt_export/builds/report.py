"""What a command that makes builds reports."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from inpaintrt.bundle import Build

__all__ = ["BuildReport"]


@dataclass(frozen=True)
class BuildReport:
    """What was done.

    Attributes:
        built: Builds that were made.
        reused: Builds that the bundle had already.
    """

    built: tuple[Build, ...]
    reused: tuple[Build, ...]
