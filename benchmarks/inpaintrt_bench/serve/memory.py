"""The memory of a server: before, during and after requests of growing sizes."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import httpx

from inpaintrt_bench.memory import forget_peak, peak_bytes
from inpaintrt_bench.schema import Row
from inpaintrt_bench.serve.server import ServedProcess
from inpaintrt_bench.serve.tasks import Task, make_mixture
from inpaintrt_bench.serve.wire import make_call

__all__ = ["MemorySettings", "measure_memory", "read_pythons"]

_PATIENCE = 600.0
_SETTLING = 5.0
_OK = 200


@dataclass(frozen=True)
class MemorySettings:
    """What is measured.

    Attributes:
        bundle: A name in the engine store, or a path.
        sizes: Widths and heights to run at, in pixels.
        steps: Steps of each request.
        burst: Requests at the same time in the last row, of the last size.
        pythons: Names of servers, and the interpreters whose inpaintrt serves.
        server_options: Further words of the servers' command lines.
    """

    bundle: str
    sizes: tuple[tuple[int, int], ...]
    steps: int
    burst: int
    pythons: tuple[tuple[str, str], ...]
    server_options: tuple[str, ...] = ()


def measure_memory(settings: MemorySettings, tell: Callable[[str], None]) -> Iterator[tuple[Row, ...]]:
    """Send one request of each size to a fresh server of each kind, and a burst; after each all rows so far.

    A server is idle once it has answered a request of the checkpoint's own size. The burst goes to this
    version alone: an older one may take all memory that there is.

    Args:
        settings: What is measured.
        tell: Hears what is done next.

    Raises:
        ServerStartError: A server did not become ready.
    """
    rows: list[Row] = []
    cases = [(size, 1) for size in settings.sizes]
    if settings.burst > 1:
        cases.append((settings.sizes[-1], settings.burst))
    for size, requests in cases:
        for name, python in settings.pythons:
            if requests > 1 and python != sys.executable:
                continue
            tell(f"{name}: {requests} x {size[0]} x {size[1]}")
            rows.append(_measure(settings, name, python, size, requests))
            yield tuple(rows)


def _measure(settings: MemorySettings, name: str, python: str, size: tuple[int, int], requests: int) -> Row:
    (task,) = make_mixture(
        1, steps=(settings.steps, settings.steps), sizes=[(128, 128)], samplers=["ddim"], seed=0
    )
    with ServedProcess(settings.bundle, settings.server_options, python=python) as server:
        _send(server.url, task, None)
        idle = server.resident_bytes()
        forget_peak(server.process.pid)
        with ThreadPoolExecutor(requests) as pool:
            problems = list(pool.map(lambda _: _send(server.url, task, size), range(requests)))
        peak = peak_bytes(server.process.pid) if server.alive else None
        time.sleep(_SETTLING)
        after = server.resident_bytes() if server.alive else None
    failures = [problem for problem in problems if problem is not None]
    return Row(
        name=name,
        status="failed" if failures else "ok",
        reason=failures[0] if failures else None,
        case={"width": size[0], "height": size[1], "requests": requests},
        values={"idle_bytes": idle, "peak_bytes": peak, "after_bytes": after},
    )


def _send(url: str, task: Task, size: tuple[int, int] | None) -> str | None:
    """Send a request; why it did not get its image, or None."""
    call = make_call(replace(task, run_size=size), "inpaint")
    try:
        answer = httpx.post(
            f"{url}{call.path}",
            content=call.body,
            headers=call.headers,
            timeout=_PATIENCE,
            trust_env=False,
        )
    except httpx.TransportError as error:
        return f"no answer: {error}"
    return None if answer.status_code == _OK else f"status {answer.status_code}: {_reason(answer)}"


def _reason(answer: httpx.Response) -> str:
    problem = answer.json()["error"]
    return f"{problem['message']} ({problem['received']})"


def read_pythons(words: Sequence[str], own: str) -> tuple[tuple[str, str], ...]:
    """Servers as `NAME=PYTHON`; without any, this very version.

    Raises:
        ValueError: A word has no name.
    """
    pairs = [word.partition("=") for word in words]
    if any(not (name and sign and python) for name, sign, python in pairs):
        raise ValueError("a server is given as NAME=PYTHON")
    return tuple((name, python) for name, _, python in pairs) or (("inpaintrt", own),)
