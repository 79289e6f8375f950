"""The memory of this machine: how much there is, and giving it back."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

__all__ = ["available_bytes", "return_freed_memory"]

_ROOT = Path("/")
_KIBIBYTE = 1024
# Of glibc's <malloc.h>.
_M_MMAP_THRESHOLD = -3
_LARGE = 2**20


def available_bytes(root: Path = _ROOT) -> int | None:
    """Bytes that this process may still take without anything being swapped out; None where nobody can tell.

    On Linux it is what the kernel estimates, or what the control group of a container has left if that is
    less; elsewhere all of the machine's memory.

    Args:
        root: Where `proc` and `sys` are.
    """
    found = [_free_of_machine(root), _free_of_group(root)]
    known = [amount for amount in found if amount is not None]
    return min(known) if known else _all_of_machine()


def _free_of_machine(root: Path) -> int | None:
    try:
        lines = (root / "proc" / "meminfo").read_text().splitlines()
    except OSError:
        return None
    fields = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return int(fields[0]) * _KIBIBYTE if fields else None


def _free_of_group(root: Path) -> int | None:
    """Of a control group of version 2, and of this process's own root: that of its container."""
    group = root / "sys" / "fs" / "cgroup"
    try:
        limit, used = ((group / name).read_text().strip() for name in ("memory.max", "memory.current"))
    except OSError:
        return None
    return None if limit == "max" else max(int(limit) - int(used), 0)


def _all_of_machine() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


def return_freed_memory() -> None:
    """Let large arrays go back to the system as soon as they are freed, where the C library is glibc.

    By itself it raises the size from which it does so with every large array that is freed, up to 32 MB, and
    then keeps for good what images and tensors below that size have once taken.
    """
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGE)
