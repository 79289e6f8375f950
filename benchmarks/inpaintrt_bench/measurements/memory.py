"""`inpaintrt bench memory`: the memory of a server before, during and after requests of growing sizes."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import click
import httpx

from inpaintrt.cli.options import bundle_option
from inpaintrt_bench.load.requests import Task, make_call, make_mixture
from inpaintrt_bench.load.server import ServedProcess
from inpaintrt_bench.report.files import output_option, record
from inpaintrt_bench.report.markdown import amount, table, value_of, verdict
from inpaintrt_bench.report.schema import Report, Row, Scalar
from inpaintrt_export.memory import forget_peak, peak_bytes

__all__ = ["MemorySettings", "measure_memory", "memory", "memory_table", "read_pythons"]

_SIZES = "128x128,256x256,512x512,768x768,16384x64,1024x1024"
_PATIENCE = 600.0
_SETTLING = 5.0
_OK = 200


@click.command()
@bundle_option
@click.option(
    "--sizes",
    default=_SIZES,
    show_default=True,
    help="Sizes to run at (width x height); the last is also sent as a burst.",
)
@click.option("--steps", type=click.IntRange(1), default=2, show_default=True, help="Steps of a request.")
@click.option(
    "--burst", type=click.IntRange(1), default=8, show_default=True, help="Requests at a time in the burst."
)
@click.option(
    "--server",
    "servers",
    multiple=True,
    metavar="NAME=PYTHON",
    help="An interpreter whose inpaintrt serves, to compare versions; may be repeated. Default: this one.",
)
@click.option(
    "--server-option",
    "server_options",
    multiple=True,
    metavar="WORD",
    help="A word for the servers; may be repeated.",
)
@output_option
def memory(
    bundle: str,
    sizes: str,
    steps: int,
    burst: int,
    servers: tuple[str, ...],
    server_options: tuple[str, ...],
    output: Path | None,
) -> None:
    """How much memory the server takes for images of each size, and whether it gives it back; on Linux.

    Every row has a server of its own; the burst goes to this version alone, since others may take all memory
    that there is. A request that the server refuses is a failed row with its reason.
    """
    try:
        pythons = read_pythons(servers, sys.executable)
        pairs = tuple(_read_size(size) for size in sizes.split(","))
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    settings = MemorySettings(bundle, pairs, steps, burst, pythons, server_options)
    described: dict[str, Scalar | list[Scalar]] = {"bundle": bundle, "steps": steps}
    snapshots = measure_memory(settings, lambda text: click.echo(text, err=True))
    record("memory", snapshots, described, memory_table, output)


def _read_size(text: str) -> tuple[int, int]:
    width, sign, height = text.strip().partition("x")
    if not (sign and width.isdecimal() and height.isdecimal()):
        raise ValueError(f"{text!r} is not a size; sizes look like this: 512x512,768x768")
    return int(width), int(height)


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


def measure_memory(settings: MemorySettings, progress: Callable[[str], None]) -> Iterator[tuple[Row, ...]]:
    """Send one request of each size to a fresh server of each kind, and a burst; after each all rows so far.

    A server is idle once it has answered a request of the checkpoint's own size. The burst goes to this
    version alone: an older one may take all memory that there is.

    Args:
        settings: What is measured.
        progress: Called with what is done next.

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
            progress(f"{name}: {requests} x {size[0]} x {size[1]}")
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
        time.sleep(_SETTLING)
        after = server.resident_bytes() if server.alive else None
        # Read last: some memory is taken while the answers are on their way.
        peak = peak_bytes(server.process.pid) if server.alive else None
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


def memory_table(report: Report) -> str:
    """Every size and server: the process's memory before, at its peak, and some time afterwards."""
    rows = [
        (
            row.name,
            f"{row.case.get('width')} x {row.case.get('height')}",
            str(row.case.get("requests")),
            *(amount(value_of(row, f"{moment}_bytes")) for moment in ("idle", "peak", "after")),
            verdict(row) or "ok",
        )
        for row in report.rows
    ]
    return table(("server", "size", "requests", "idle", "peak", "afterwards", "verdict"), rows, texts=2)
