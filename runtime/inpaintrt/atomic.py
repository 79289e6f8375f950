"""Files that are written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

__all__ = ["atomic_write"]


@contextlib.contextmanager
def atomic_write(path: Path, *, durable: bool = False) -> Iterator[Path]:
    """Replace a file in one step: readers see the old content or the new one, never a part of it.

    Args:
        path: The file, which need not exist; its folder must.
        durable: Wait until the content is on the disk, so that a power failure cannot leave an empty file.

    Yields:
        A path in the same folder to write to. It becomes `path` when the block ends, and is removed when the
        block raises.

    Raises:
        OSError: The file cannot be replaced; it then has its old content.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.partial")
    try:
        yield partial
        if durable:
            with partial.open("rb+") as stream:
                os.fsync(stream.fileno())
        partial.replace(path)
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
