"""The bundle as the WebUI's clients know a checkpoint."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from inpaintrt.bundle import Manifest

__all__ = ["Checkpoint"]

_SHORT = 10


@dataclass(frozen=True)
class Checkpoint:
    """What stands for the bundle in lists and settings.

    Attributes:
        name: The bundle's name.
        sha256: Of the checkpoint that it was exported from; where that is not known, of its files' hashes.
        native: Height and width that it was trained at.
    """

    name: str
    sha256: str
    native: tuple[int, int]

    @classmethod
    def of(cls, manifest: Manifest) -> Checkpoint:
        """The checkpoint of a bundle."""
        files = "".join(entry.sha256 for entry in manifest.files)
        sha256 = manifest.checkpoint.sha256 or hashlib.sha256(files.encode()).hexdigest()
        return cls(manifest.name, sha256, manifest.architecture.native_resolution)

    @property
    def short_hash(self) -> str:
        """The first digits of the hash, which the WebUI writes behind names."""
        return self.sha256[:_SHORT]

    @property
    def title(self) -> str:
        """The name with its hash."""
        return f"{self.name} [{self.short_hash}]"

    @property
    def names(self) -> tuple[str, ...]:
        """All that a client may call it."""
        return self.title, self.name, self.short_hash, self.sha256
