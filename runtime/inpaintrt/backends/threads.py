"""How many threads share one operator on the CPU."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inpaintrt.backends.options import integer

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["default_threads", "threads_option"]

_ROOT = Path("/")


def threads_option(options: Mapping[str, Any]) -> int | None:
    """A backend's option `threads`, or else `default_threads`.

    Raises:
        ParameterError: It is not a positive integer.
    """
    if options.get("threads") is None:
        return default_threads()
    return integer(options, "threads", 1, minimum=1)


def default_threads(root: Path = _ROOT) -> int | None:
    """Threads where nobody says how many; None leaves it to the library, which takes one a physical core.

    It is what OMP_NUM_THREADS says, as for PyTorch. Without that it is as many as the process may use
    processors, if these are not all there are: libraries count those of the machine, and threads that wait
    for a processor make the others wait as well.

    Args:
        root: Where `sys` is.
    """
    named = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    if named.isdecimal() and int(named) > 0:
        return int(named)
    limits = [limit for limit in (_allowed_processors(), _processors_of_group(root)) if limit is not None]
    fewest = min(limits, default=None)
    return fewest if fewest is not None and fewest < (os.cpu_count() or 1) else None


def _allowed_processors() -> int | None:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None


def _processors_of_group(root: Path) -> int | None:
    """What the control group of a container may use, in whole processors."""
    try:
        quota, period = (root / "sys" / "fs" / "cgroup" / "cpu.max").read_text().split()
    except (OSError, ValueError):
        return None
    return None if quota == "max" else max(-(-int(quota) // int(period)), 1)
