"""The memory of this process: how much is resident, and the most there was."""

from __future__ import annotations

from pathlib import Path

import psutil  # type: ignore[import-untyped]

__all__ = ["forget_peak", "peak_bytes", "resident_bytes"]

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")
_CLEAR_PEAK = "5"
_KIBIBYTE = 1024


def resident_bytes() -> int:
    """Bytes that are resident now."""
    return int(psutil.Process().memory_info().rss)


def forget_peak() -> None:
    """Let the next peak count from now on, where the system can: Linux."""
    if _CLEAR.exists():
        _CLEAR.write_text(_CLEAR_PEAK)


def peak_bytes() -> int | None:
    """The most bytes that were resident since the last `forget_peak`; None where the system cannot tell.

    It is Linux's VmHWM. `ru_maxrss`, which is asked for more often, also counts the process that started
    this one.
    """
    if not _STATUS.exists():
        return None
    (line,) = (line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * _KIBIBYTE
