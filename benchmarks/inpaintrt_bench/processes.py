"""Measurements in processes of their own, and the memory of a process."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import ParamSpec, TypeVar

import psutil  # type: ignore[import-untyped]

__all__ = ["KEEP_BYTE_CODE", "forget_peak", "peak_bytes", "resident_bytes", "run_alone"]

KEEP_BYTE_CODE = {"PYTHONDONTWRITEBYTECODE": ""}
"""For the environment of processes whose imports are timed: users import what was compiled before."""

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")

_PROCESSES = Path("/proc")
_CLEAR_PEAK = "5"
_KIBIBYTE = 1024


def run_alone(
    function: Callable[_Arguments, _Result], *arguments: _Arguments.args, **options: _Arguments.kwargs
) -> _Result:
    """Call a function in a fresh interpreter and return its result.

    Args:
        function: A function of a module.
        arguments: Its arguments, which are pickled, as is the result.
        options: Its arguments by name.

    Raises:
        BrokenProcessPool: The process was killed, for example because memory ran out.
        Exception: Whatever the function raises.
    """
    with ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments, **options).result()


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
