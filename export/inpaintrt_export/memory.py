"""The resident memory of a process, now and at its peak."""

from __future__ import annotations

from pathlib import Path

import psutil  # type: ignore[import-untyped]

__all__ = ["forget_peak", "peak_bytes", "resident_bytes"]

_PROCESSES = Path("/proc")
_CLEAR_PEAK = "5"
_KIBIBYTE = 1024


def resident_bytes() -> int:
    """Bytes of this process that are resident now."""
    return int(psutil.Process().memory_info().rss)


def forget_peak(process: int | str = "self") -> None:
    """Let the next peak of a process count from now on, where the system can: Linux."""
    clear = _PROCESSES / str(process) / "clear_refs"
    if clear.exists():
        clear.write_text(_CLEAR_PEAK)


def peak_bytes(process: int | str = "self") -> int | None:
    """Maximum bytes that were resident since the last `forget_peak`; None where the system cannot tell.

    It is Linux's VmHWM. `ru_maxrss`, which is asked for more often, also counts the process that started
    this one.
    """
    status = _PROCESSES / str(process) / "status"
    if not status.exists():
        return None
    (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * _KIBIBYTE
