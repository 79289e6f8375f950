"""The output folder: it appears whole, or not at all."""

from __future__ import annotations

import contextlib
import re
import shutil
from typing import TYPE_CHECKING

import psutil  # type: ignore[import-untyped]

from inpaintrt.bundle import MANIFEST_NAME
from inpaintrt.errors import DiskSpaceError, OutputFolderError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["check_disk_space", "check_output", "new_folder"]

_SPARE = 64 * 2**20  # bytes for tokenizer, graphs and manifest


def check_output(output: Path, *, force: bool) -> None:
    """Check that a bundle may be written to a folder.

    Args:
        output: The bundle's folder, which need not exist.
        force: Allow an older bundle to be replaced.

    Raises:
        OutputFolderError: The folder holds something else, or a bundle while `force` is not given.
    """
    if not output.exists() and not output.is_symlink():
        return
    if output.is_dir() and not any(output.iterdir()):
        return
    if not (output / MANIFEST_NAME).is_file():
        raise OutputFolderError(
            f"{output} is not ours to replace",
            received="a folder without bundle.json" if output.is_dir() else "a file",
            expected="a folder that is empty or does not exist, or an older bundle",
            hint="name another output folder",
        )
    if not force:
        raise OutputFolderError(
            f"there is a bundle in {output}",
            expected="a folder that is empty or does not exist",
            hint="pass --force to replace the bundle, or name another output folder",
        )


def check_disk_space(output: Path, needed: int) -> None:
    """Check that there is room for a bundle before the work begins.

    Args:
        output: The bundle's folder, which need not exist.
        needed: Bytes of the weights.

    Raises:
        DiskSpaceError: There is less room than weights and graphs need.
    """
    existing = next(folder for folder in (output, *output.absolute().parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    if free < needed + _SPARE:
        raise DiskSpaceError(
            f"there is too little room for the bundle in {existing}",
            received=f"{free / 2**30:.1f} GiB free",
            expected=f"{(needed + _SPARE) / 2**30:.1f} GiB",
            hint="free some space, or name an output folder on another disk",
        )


@contextlib.contextmanager
def new_folder(output: Path, *, force: bool) -> Iterator[Path]:
    """A temporary folder beside `output` that takes its place when the block ends well.

    What an export that was killed has left beside `output` is removed first.

    Raises:
        OutputFolderError: The output folder holds something that may not be replaced, be it before the work
            or after it.
    """
    output = output.absolute()
    output.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(output)
    check_output(output, force=force)
    partial = output.with_name(_partial_name(output.name))
    partial.mkdir()
    try:
        yield partial
        check_output(output, force=force)
        _replace(partial, output)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _replace(partial: Path, output: Path) -> None:
    if not output.exists():
        partial.replace(output)
        return
    old = partial.with_name(f"{partial.name}-old")
    output.replace(old)
    try:
        partial.replace(output)
    except BaseException:
        old.replace(output)
        raise
    shutil.rmtree(old)


def _partial_name(name: str) -> str:
    process = psutil.Process()
    return f".{name}.partial-{process.pid}-{int(process.create_time())}"


def _remove_leftovers(output: Path) -> None:
    pattern = re.compile(re.escape(f".{output.name}.partial-") + r"(\d+)-(\d+)(-old)?")
    for entry in list(output.parent.iterdir()):
        match = pattern.fullmatch(entry.name)
        if not match or _is_running(int(match[1]), int(match[2])):
            continue
        if match[3] and not output.exists():
            entry.replace(output)  # killed between moving the older bundle away and putting the new one there
        else:
            shutil.rmtree(entry)


def _is_running(pid: int, started: int) -> bool:
    try:
        return int(psutil.Process(pid).create_time()) == started
    except psutil.NoSuchProcess:
        return False
