"""`inpaintrt bench soak`: hours of load, in windows; nothing may be left in the server after any."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import click

from inpaintrt.cli.options import bundle_option
from inpaintrt_bench.load.clients import Loop, draw_arrivals, run_closed, run_open
from inpaintrt_bench.load.requests import Load, Task, load_options, make_call
from inpaintrt_bench.load.results import ReferenceImages, make_row, paint_references, steady_throughput
from inpaintrt_bench.load.server import ServedProcess
from inpaintrt_bench.processes import run_alone
from inpaintrt_bench.report.files import output_option, record
from inpaintrt_bench.report.markdown import amount, duration, number, table, value_of, verdict
from inpaintrt_bench.report.schema import Report, Row, Scalar

__all__ = ["SoakSettings", "memory_growth", "relative_growth", "run_soak", "soak", "soak_table"]

_MAX_GROWTH = 0.1
_PATIENCE = 30.0
_POLL = 0.1


@click.command()
@bundle_option
@click.option("--minutes", type=click.FloatRange(0, min_open=True), default=30.0, show_default=True)
@click.option(
    "--window",
    type=click.FloatRange(1),
    default=60.0,
    show_default=True,
    help="Seconds between two looks at the server.",
)
@click.option(
    "--load",
    "share",
    type=click.FloatRange(0, min_open=True),
    default=0.8,
    show_default=True,
    help="Rate as a fraction of the capacity.",
)
@click.option(
    "--hang-ups",
    type=click.FloatRange(0, 1),
    default=0.1,
    show_default=True,
    help="The share of clients that go away.",
)
@load_options
@output_option
def soak(
    bundle: str,
    minutes: float,
    window: float,
    share: float,
    hang_ups: float,
    load: Load,
    output: Path | None,
) -> None:
    """Whether the server's memory stays flat under load for long, and nothing is left behind.

    Exits with status 1 if a request was lost, an image was wrong, a slot stayed taken, or memory grew by a
    tenth. Results are written as they come.
    """
    settings = SoakSettings(
        bundle,
        minutes,
        window,
        share,
        hang_ups=hang_ups,
        seed=load.seed,
        server_options=load.server_options,
    )
    described: dict[str, Scalar | list[Scalar]] = {
        "bundle": bundle,
        "minutes": minutes,
        "load": share,
        "hang_ups": hang_ups,
        "seed": load.seed,
    }
    snapshots = run_soak(settings, load.tasks(), load.apis, lambda text: click.echo(text, err=True))
    report = record("soak", snapshots, described, soak_table, output)
    growth = memory_growth(report.rows)
    click.echo(f"From the second quarter to the last, the server's memory changed by {growth:+.1%}.")
    if growth > _MAX_GROWTH or any(row.status != "ok" for row in report.rows):
        raise click.exceptions.Exit(1)


@dataclass(frozen=True)
class SoakSettings:
    """What is measured.

    Attributes:
        bundle: A name in the engine store, or a path.
        minutes: Length of the whole.
        window: Seconds between two looks at the server.
        load: Rate as a fraction of the capacity, which is measured first.
        capacity_seconds: Length of that measurement.
        clients: Requests in flight meanwhile.
        hang_ups: The share of clients that go away within a second.
        seed: What arrivals and the choice of calls depend on.
        server_options: Further words of the server's command line.
    """

    bundle: str
    minutes: float = 30.0
    window: float = 60.0
    load: float = 0.8
    capacity_seconds: float = 20.0
    clients: int = 16
    hang_ups: float = 0.1
    seed: int = 0
    server_options: tuple[str, ...] = ()


def run_soak(
    settings: SoakSettings, tasks: Sequence[Task], apis: Sequence[str], progress: Callable[[str], None]
) -> Iterator[tuple[Row, ...]]:
    """Load a server; after each window all rows as they are now.

    Args:
        settings: What is measured.
        tasks: What is asked for.
        apis: Interfaces to ask; each task is written for one of them, in turn.
        progress: Called with what is done next.
    """
    calls = tuple(make_call(task, apis[index % len(apis)]) for index, task in enumerate(tasks))
    images = ReferenceImages(paint_references(settings.bundle, tasks))
    rows: list[Row] = []
    with ServedProcess(settings.bundle, settings.server_options) as server:
        loop = Loop(server.url, calls)
        closed = run_alone(run_closed, loop, settings.clients, settings.capacity_seconds)
        rate = settings.load * steady_throughput(closed, settings.capacity_seconds)
        progress(f"{rate:.2f} requests a second for {settings.minutes:g} minutes")
        ends = time.monotonic() + 60 * settings.minutes
        while time.monotonic() < ends and server.alive:
            seed = f"{settings.seed}/{len(rows)}"
            arrivals = draw_arrivals(rate, settings.window, seed)
            sent = run_alone(run_open, loop, arrivals, seed, settings.hang_ups)
            case: dict[str, Scalar] = {"window": len(rows) + 1, "rate": rate}
            resident = server.resident_bytes() if server.alive else None
            row = make_row("window", case, [sent], images, resident=resident)
            rows.append(_with_what_is_left(row, server))
            progress(f"window {len(rows)}: {row.values['pictures']} images, {resident or 0:,} bytes")
            yield tuple(rows)


def memory_growth(rows: Sequence[Row]) -> float:
    """How much more memory the server held in the last quarter of the windows than in the second.

    Args:
        rows: Of `run_soak`; fewer than four are too few.

    Returns:
        A share of the second quarter's median; 0.1 is a tenth more.
    """
    return relative_growth([float(row.values.get("resident_bytes") or 0) for row in rows])


def relative_growth(sizes: Sequence[float]) -> float:
    """How much larger the last quarter of some sizes is than the second, as a share of that.

    Args:
        sizes: One after another; fewer than four are too few.
    """
    quarter = len(sizes) // 4
    if not quarter:
        return 0.0
    return median(sizes[-quarter:]) / median(sizes[quarter : 2 * quarter]) - 1


def _with_what_is_left(row: Row, server: ServedProcess) -> Row:
    """The row, "failed" if slots or places are still taken once every request is over."""
    if not server.alive:
        return _changed(row, "the server ended", {})
    deadline = time.monotonic() + _PATIENCE
    while (left := _left(server)) and time.monotonic() < deadline:
        time.sleep(_POLL)
    metrics = server.metrics()
    values = {
        "slots_active": int(metrics["inpaintrt_slots_active"]),
        "places_taken": int(metrics["inpaintrt_places_taken"]),
    }
    return _changed(row, "slots or places are still taken" if left else None, values)


def _left(server: ServedProcess) -> int:
    metrics = server.metrics()
    return int(metrics["inpaintrt_slots_active"] + metrics["inpaintrt_places_taken"])


def _changed(row: Row, failure: str | None, values: dict[str, int]) -> Row:
    return Row(
        name=row.name,
        status="failed" if failure else row.status,
        reason=failure or row.reason,
        case=row.case,
        values={**row.values, **values},
        series=row.series,
    )


def soak_table(report: Report) -> str:
    """Every window: what was served, how long it took, and what was left in the server."""
    rows = [
        (
            str(row.case.get("window")),
            number(value_of(row, "pictures_per_second") or 0),
            *(duration(value_of(row, f"{name}_seconds")) for name in ("p50", "p95")),
            *_counts(row, ("requests", "hung_up", "lost", "slots_active")),
            amount(value_of(row, "resident_bytes")),
            verdict(row) or "ok",
        )
        for row in report.rows
    ]
    header = (
        *("window", "images / s", "p50", "p95", "requests", "hung up", "lost", "slots left", "memory"),
        "verdict",
    )
    return table(header, rows)


def _counts(row: Row, names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"{value_of(row, name) or 0:.0f}" for name in names)
