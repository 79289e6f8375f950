"""The files of a bundle: their digests, and whether they are what was exported."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from inpaintrt.bundle.records import FileEntry, Manifest
from inpaintrt.errors import BundleIntegrityError

__all__ = ["describe_file", "verify_files"]


def describe_file(folder: Path, path: str) -> FileEntry:
    """Size and SHA-256 of a file, named relative to the bundle."""
    with (folder / path).open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return FileEntry(path=path, size=(folder / path).stat().st_size, sha256=digest)


def verify_files(manifest: Manifest, folder: Path, *, hashes: bool = True) -> None:
    """Check that every file of a bundle is there, with its size and, if asked, its content.

    Args:
        manifest: The bundle's manifest.
        folder: The bundle.
        hashes: Also read every file and compare its SHA-256.

    Raises:
        BundleIntegrityError: A file is missing, leads out of the bundle, or differs.
    """
    for entry in manifest.files:
        _check_there(folder, entry)
    with ThreadPoolExecutor() as pool:  # hashlib lets other threads run
        list(pool.map(partial(_check_content, folder, hashes=hashes), manifest.files))


def _check_there(folder: Path, entry: FileEntry) -> None:
    _check_inside(folder, entry.path)
    if not (folder / entry.path).is_file():
        raise BundleIntegrityError(
            f"{folder / entry.path} is missing",
            expected=f"a file of {entry.size} bytes",
            hint="copy the bundle again, or export it again",
        )


def _check_inside(folder: Path, path: str) -> None:
    if not (folder / path).resolve().is_relative_to(folder.resolve()):
        raise BundleIntegrityError(
            f"the manifest of {folder} names a file outside the bundle",
            received=path,
            expected="a path below the bundle's folder",
            hint="do not use this bundle: its manifest was tampered with",
        )


def _check_content(folder: Path, entry: FileEntry, *, hashes: bool) -> None:
    size = (folder / entry.path).stat().st_size
    found = describe_file(folder, entry.path) if hashes and size == entry.size else None
    if size != entry.size or (found is not None and found.sha256 != entry.sha256):
        raise BundleIntegrityError(
            f"{folder / entry.path} is not the file that was exported",
            received=f"{size} bytes" + (f", sha256 {found.sha256}" if found else ""),
            expected=f"{entry.size} bytes, sha256 {entry.sha256}",
            hint="copy the bundle again, or export it again",
        )
