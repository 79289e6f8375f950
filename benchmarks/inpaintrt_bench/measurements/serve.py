"""`inpaintrt bench serve`: the same arrivals for the server in several modes, in turns."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from inpaintrt.cli.options import bundle_option
from inpaintrt.errors import InpaintError
from inpaintrt_bench.load.clients import Loop, Sent, draw_arrivals, run_closed, run_open
from inpaintrt_bench.load.requests import Load, Task, load_options, make_call
from inpaintrt_bench.load.results import make_row, paint_references, steady_throughput
from inpaintrt_bench.load.server import ServedProcess, ServerSetup
from inpaintrt_bench.load.warm_up import warm_up
from inpaintrt_bench.processes import run_alone
from inpaintrt_bench.report.files import output_option, record
from inpaintrt_bench.report.markdown import (
    duration,
    number,
    row_labels,
    table,
    value_of,
    verdict,
)
from inpaintrt_bench.report.schema import Report, Row, Scalar

__all__ = ["MODES", "CapacityError", "Study", "StudySettings", "serve", "serve_table"]

MODES = ("continuous", "whole-batches", "one-at-a-time")

_NOTES = (
    "The process of the clients shares the processor with the server.",
    "Requests repeat: the server's caches of prompts and encoded images are warm, in every mode alike.",
)
_LOOK = "ask the server for one image, and look at its log"


@click.command()
@bundle_option
@click.option(
    "--mode",
    "modes",
    type=click.Choice(MODES),
    multiple=True,
    default=MODES,
    show_default=True,
    help="How the server batches; may be repeated. Loads are relative to the first one's capacity.",
)
@click.option(
    "--load",
    "loads",
    type=click.FloatRange(0, min_open=True),
    multiple=True,
    default=(0.5, 0.8, 1.2),
    show_default=True,
    help="Rate as a fraction of the capacity; may be repeated.",
)
@click.option(
    "--rate", "rates", type=click.FloatRange(0, min_open=True), multiple=True, help="Requests a second."
)
@click.option("--seconds", type=click.FloatRange(1), default=30.0, show_default=True, help="Of each load.")
@click.option(
    "--capacity-seconds",
    type=click.FloatRange(1),
    default=15.0,
    show_default=True,
    help="Of each measurement of the capacity.",
)
@click.option(
    "--rounds",
    type=click.IntRange(1),
    default=2,
    show_default=True,
    help="How often everything is repeated, the modes in turn.",
)
@click.option(
    "--clients",
    type=click.IntRange(1),
    default=16,
    show_default=True,
    help="Requests in flight while the capacity is measured.",
)
@load_options
@output_option
def serve(
    bundle: str,
    modes: tuple[str, ...],
    loads: tuple[float, ...],
    rates: tuple[float, ...],
    seconds: float,
    capacity_seconds: float,
    rounds: int,
    clients: int,
    load: Load,
    output: Path | None,
) -> None:
    """How long clients wait for the server under load, and how many it serves.

    Requests arrive at random times (Poisson) whatever the server does; latency counts from the time that was
    drawn. The clients are one process, the server another; on a machine with few cores they share them. Every
    image is compared with the one that the pipeline paints alone on the same backend. Before the capacity is
    measured, a burst of requests that is not counted warms the server up. Results are written after each
    server.
    """
    settings = StudySettings(
        load.setup(bundle),
        modes,
        loads,
        rates,
        seconds,
        capacity_seconds,
        rounds,
        clients,
        load.seed,
    )
    study = Study(settings, load.tasks(), load.apis, lambda text: click.echo(text, err=True))
    record("serve", study.run(), study.describe(), serve_table, output, notes=_NOTES)


class CapacityError(InpaintError):
    """There is no capacity that loads could be fractions of."""


@dataclass(frozen=True)
class StudySettings:
    """What is measured.

    Attributes:
        server: What is served, and on what.
        modes: Modes of the server; the capacity of the first is what loads are fractions of.
        loads: Rates as fractions of the capacity.
        rates: Rates in requests a second, beside the loads.
        seconds: Length of one load.
        capacity_seconds: Length of one measurement of the capacity.
        rounds: How often everything is repeated; the order of the modes turns.
        clients: Requests in flight while the capacity is measured.
        seed: What arrivals and the choice of calls depend on.
    """

    server: ServerSetup
    modes: tuple[str, ...] = MODES
    loads: tuple[float, ...] = (0.5, 0.8, 1.2)
    rates: tuple[float, ...] = ()
    seconds: float = 40.0
    capacity_seconds: float = 20.0
    rounds: int = 2
    clients: int = 16
    seed: int = 0


def _describe(
    settings: StudySettings, tasks: Sequence[Task], apis: Sequence[str]
) -> dict[str, Scalar | list[Scalar]]:
    return {
        "bundle": settings.server.bundle,
        "backend": settings.server.backend,
        "backend_options": settings.server.backend_options,
        "apis": list(apis),
        "tasks": len(tasks),
        "steps": [min(task.steps for task in tasks), max(task.steps for task in tasks)],
        "sizes": [f"{width}x{height}" for width, height in sorted({task.size for task in tasks})],
        "samplers": list[Scalar](sorted({task.sampler for task in tasks})),
        "seconds": settings.seconds,
        "capacity_seconds": settings.capacity_seconds,
        "rounds": settings.rounds,
        "clients": settings.clients,
        "server_options": list(settings.server.options),
        "seed": settings.seed,
    }


@dataclass(frozen=True)
class _Load:
    """One load: what sets its rows apart, and requests a second; None for a closed loop."""

    case: str
    rate: float | None = None


class Study:
    """One run of the load test.

    Args:
        settings: What is measured.
        tasks: What is asked for.
        apis: Interfaces to ask; each task is written for one of them, in turn.
        progress: Called with what is done next.
    """

    def __init__(
        self,
        settings: StudySettings,
        tasks: Sequence[Task],
        apis: Sequence[str],
        progress: Callable[[str], None],
    ) -> None:
        self._settings = settings
        self._described = _describe(settings, tasks, apis)
        self._tasks, self._warm_up_api = tasks, apis[0]
        self._calls = tuple(make_call(task, apis[index % len(apis)]) for index, task in enumerate(tasks))
        self._progress = progress
        progress(f"painting {len(tasks)} reference images")
        self._images = paint_references(settings.server, tasks)
        self._sent: dict[tuple[str, _Load], list[Sent]] = {}
        self._resident: dict[str, int] = {}
        self._loads: tuple[_Load, ...] = ()

    def describe(self) -> dict[str, Scalar | list[Scalar]]:
        """What all rows have in common."""
        return dict(self._described)

    def run(self) -> Iterator[tuple[Row, ...]]:
        """Measure; after each server all rows as they are now."""
        modes = self._settings.modes
        for index in range(self._settings.rounds):
            turn = index % len(modes)
            for mode in modes[turn:] + modes[:turn]:
                setup = self._settings.server
                with ServedProcess(setup.bundle, ("--mode", mode, *setup.words)) as server:
                    self._measure(server, mode, index)
                yield self._rows()

    def _measure(self, server: ServedProcess, mode: str, round_index: int) -> None:
        loop = Loop(server.url, self._calls)
        where = f"round {round_index + 1} of {self._settings.rounds}, {mode}"
        self._progress(f"{where}: warm-up")
        warm_up(server, self._tasks, self._warm_up_api)
        self._progress(f"{where}: capacity")
        closed = run_alone(run_closed, loop, self._settings.clients, self._settings.capacity_seconds)
        self._keep(mode, _CAPACITY, closed)
        self._loads = self._loads or self._make_loads(
            steady_throughput(closed, self._settings.capacity_seconds)
        )
        for index, load in enumerate(self._loads):
            self._progress(f"{where}: {load.case}, {load.rate:.2f} requests a second")
            seed = f"{self._settings.seed}/{round_index}/{index}"
            arrivals = draw_arrivals(load.rate or 0.0, self._settings.seconds, seed)
            self._keep(mode, load, run_alone(run_open, loop, arrivals, seed))
        self._resident[mode] = server.resident_bytes()

    def _make_loads(self, capacity: float) -> tuple[_Load, ...]:
        if not capacity:
            raise CapacityError("no image came while the capacity was measured", hint=_LOOK)
        relative = [_Load(f"{share:.0%} of capacity", share * capacity) for share in self._settings.loads]
        return (*relative, *(_Load(f"{rate:g} a second", rate) for rate in self._settings.rates))

    def _keep(self, mode: str, load: _Load, sent: Sent) -> None:
        self._sent.setdefault((mode, load), []).append(sent)

    def _rows(self) -> tuple[Row, ...]:
        seconds = self._settings.capacity_seconds
        return tuple(
            make_row(
                mode,
                {"load": load.case, "rate": load.rate},
                sent,
                self._images,
                resident=self._resident[mode],
                window=seconds if load is _CAPACITY else None,
            )
            for (mode, load), sent in self._sent.items()
        )


_CAPACITY = _Load("capacity")


def serve_table(report: Report) -> str:
    """Every load: images a second, how long a request takes, and how many were refused."""
    pairs = zip(row_labels(report.rows), report.rows, strict=True)
    rows = [
        (
            label,
            number(value_of(row, "pictures_per_second") or 0),
            *(duration(value_of(row, f"{name}_seconds")) for name in ("p50", "p95", "p99")),
            *(f"{value_of(row, name) or 0:.0f}" for name in ("requests", "refused", "lost")),
            verdict(row) or "ok",
        )
        for label, row in pairs
    ]
    header = ("load", "images / s", "p50", "p95", "p99", "requests", "refused", "lost", "verdict")
    return table(header, rows)
