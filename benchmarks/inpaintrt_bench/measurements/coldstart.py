"""`inpaintrt bench coldstart`: from the start of a process to its first image."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import click

from inpaintrt_bench.report.markdown import (
    amount,
    duration,
    peak_memory,
    row_labels,
    statistic_of,
    table,
    verdict,
)
from inpaintrt_bench.report.schema import Memory, Report, Row, make_series
from inpaintrt_bench.runners.catalogue import RunnerSpec, choose_runners
from inpaintrt_bench.runners.launching import Launcher
from inpaintrt_bench.runners.process import RunnerError
from inpaintrt_bench.runners.session import (
    SessionSettings,
    case_options,
    open_session,
    parse_size,
    session_options,
)
from inpaintrt_bench.runners.sources import make_case
from inpaintrt_bench.workers.messages import Case

__all__ = ["coldstart", "coldstart_table", "measure_cold_starts"]

_SERIES = ("cold_start", "import", "start", "first_run")


@click.command()
@session_options
@case_options
@click.option("--runner", "runners", multiple=True, help="A runner's name; may be repeated. Default: all.")
@click.option(
    "--size", default="128x128", show_default=True, callback=parse_size, help="Width x height to run at."
)
@click.option("--steps", type=click.IntRange(min=1), default=20, show_default=True, help="Of the sampler.")
@click.option("--rounds", type=click.IntRange(min=1), default=5, show_default=True, help="Counted starts.")
def coldstart(
    runners: tuple[str, ...],
    size: tuple[int, int],
    steps: int,
    rounds: int,
    prompt: str | None,
    guidance: float,
    seed: int,
    **session: Any,  # noqa: ANN401
) -> None:
    """From the start of a process to its first image, files being in the page cache.

    The runners are those of `compare`.
    """
    settings = SessionSettings(**session)
    specs = choose_runners(runners, settings.device)
    with open_session("coldstart", coldstart_table, settings) as opened:
        case = make_case(
            opened.scratch,
            width=size[0],
            height=size[1],
            steps=steps,
            prompt=prompt,
            guidance_scale=guidance,
            seed=seed,
        )
        common = opened.describe(case)
        rows = measure_cold_starts(
            specs, opened.launcher, case, rounds=rounds, report=lambda some: opened.keep(some, common)
        )
        opened.finish(rows, common)


class _ColdStarts:
    """What the cold starts of one runner came to."""

    def __init__(self, spec: RunnerSpec) -> None:
        self.spec = spec
        self.failure: str | None = None
        self._samples: dict[str, list[float]] = {name: [] for name in _SERIES}
        self._peaks: list[int] = []
        self._versions: dict[str, str] = {}
        self._notes: tuple[str, ...] = ()
        self._warm_ups = 0

    def once(self, launcher: Launcher, case: Case, *, counted: bool) -> None:
        """Start a process, paint, and end it."""
        with launcher.launch(self.spec) as process:
            started = process.start(launcher.source(self.spec))
            outcome = process.run(case)
            seconds = time.perf_counter() - process.born
            peak = process.peak_resident
        self._versions, self._notes = started.versions, outcome.notes
        if not counted:
            self._warm_ups += 1
            return
        times = (seconds, started.import_seconds, started.start_seconds, outcome.total)
        for name, sample in zip(_SERIES, times, strict=True):
            self._samples[name].append(sample)
        if peak is not None:
            self._peaks.append(peak)

    def row(self) -> Row:
        """What was measured so far."""
        return Row(
            name=self.spec.name,
            status="ok" if self.failure is None else "failed",
            reason=self.failure,
            series={
                name: make_series(samples, warm_up=self._warm_ups)
                for name, samples in self._samples.items()
                if samples
            },
            memory=Memory(peak_resident=max(self._peaks)) if self._peaks else None,
            versions=self._versions,
            notes=(*self.spec.notes, *self._notes),
        )


def measure_cold_starts(
    specs: Sequence[RunnerSpec],
    launcher: Launcher,
    case: Case,
    *,
    rounds: int,
    report: Callable[[tuple[Row, ...]], None] = lambda _: None,
) -> tuple[Row, ...]:
    """Measure cold starts in turns; a first round is not counted, so that all files are in the page cache.

    Args:
        specs: The runners.
        launcher: Starts them.
        case: What the first image is.
        rounds: Counted cold starts of each.
        report: Called with what there is after each round.

    Returns:
        A row for each runner, with the series "cold_start", "import", "start" and "first_run".
    """
    starts = [_ColdStarts(spec) for spec in specs]
    for number in range(rounds + 1):
        for one in starts:
            if one.failure is not None:
                continue
            launcher.progress(f"{one.spec.name}: cold start {number} of {rounds}")
            try:
                if number == 0:
                    launcher.prepare(one.spec)
                one.once(launcher, case, counted=number > 0)
            except RunnerError as error:
                one.failure = error.what
        report(tuple(one.row() for one in starts))
    return tuple(one.row() for one in starts)


def coldstart_table(report: Report) -> str:
    """Every runner: process start to first image, and what of it goes into importing and loading."""
    pairs = zip(row_labels(report.rows), report.rows, strict=True)
    rows = [
        (
            label,
            *(duration(statistic_of(row, name)) for name in ("cold_start", "import", "start")),
            amount(peak_memory(row)),
            verdict(row) or "ok",
        )
        for label, row in pairs
    ]
    return table(("runner", "first image", "importing", "loading", "peak memory", "verdict"), rows)
