"""`inpaintrt bench latency`: how long one bundle takes, over batch, size, steps and samplers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import click

from inpaintrt_bench.report.machine import device_bytes
from inpaintrt_bench.report.markdown import (
    MISSING,
    duration,
    number,
    row_labels,
    statistic_of,
    table,
    verdict,
)
from inpaintrt_bench.report.schema import Memory, Peak, Report, Row, make_series
from inpaintrt_bench.runners.catalogue import RunnerSpec, choose_runners
from inpaintrt_bench.runners.launching import Launcher
from inpaintrt_bench.runners.measured import stage_series
from inpaintrt_bench.runners.process import RunnerError, RunnerProcess, Started
from inpaintrt_bench.runners.session import (
    SessionSettings,
    case_options,
    open_session,
    parse_size,
    session_options,
)
from inpaintrt_bench.runners.sources import make_case
from inpaintrt_bench.runners.work import CountedWork, try_count_work
from inpaintrt_bench.workers.messages import Case, Outcome

__all__ = ["add_work", "latency", "latency_table", "measure_latency"]

_NUMBER = click.IntRange(min=1)


@click.command()
@session_options
@case_options
@click.option("--backend", default="onnxruntime", show_default=True, help="What runs the engines.")
@click.option(
    "--size",
    "sizes",
    multiple=True,
    default=("128x128",),
    show_default=True,
    callback=parse_size,
    help="Width x height to run at; may be repeated.",
)
@click.option("--steps", type=_NUMBER, multiple=True, default=(20,), show_default=True, help="Repeatable.")
@click.option(
    "--batch", "batches", type=_NUMBER, multiple=True, default=(1,), show_default=True, help="Repeatable."
)
@click.option("--sampler", "samplers", multiple=True, help="Repeatable. Default: the checkpoint's own.")
@click.option("--warm-up", type=_NUMBER, default=2, show_default=True, help="Uncounted runs of each case.")
@click.option("--rounds", type=_NUMBER, default=9, show_default=True, help="Counted runs of each case.")
def latency(
    backend: str,
    sizes: tuple[tuple[int, int], ...],
    steps: tuple[int, ...],
    batches: tuple[int, ...],
    samplers: tuple[str, ...],
    warm_up: int,
    rounds: int,
    prompt: str | None,
    guidance: float,
    seed: int,
    **session: Any,  # noqa: ANN401
) -> None:
    """How long one bundle takes on one backend, for every combination of batch, size, steps and sampler."""
    settings = SessionSettings(**session)
    (spec,) = choose_runners((f"inpaintrt-{backend}",), settings.device)
    with open_session("latency", latency_table, settings) as opened:
        cases = [
            make_case(
                opened.scratch,
                width=size[0],
                height=size[1],
                steps=count,
                prompt=prompt,
                guidance_scale=guidance,
                seed=seed,
                batch=batch,
                sampler=sampler,
            )
            for sampler, count, size, batch in product(samplers or (None,), steps, sizes, batches)
        ]
        common: dict[str, Any] = {
            "backend": backend,
            "guidance_scale": guidance,
            "seed": seed,
            "prompt": cases[0].prompt,
        }
        launcher = opened.launcher
        work = [try_count_work(launcher.bundle, case, launcher.progress) for case in cases]
        notes = tuple(dict.fromkeys(note for one in work for note in one.notes))
        rows = measure_latency(
            spec,
            launcher,
            cases,
            warm_up=warm_up,
            rounds=rounds,
            report=lambda some: opened.keep(some, common, notes),
        )
        opened.finish(add_work(rows, work, opened.peak), common, notes)


@dataclass
class _Measured:
    """One case of the sweep."""

    case: Case
    outcomes: list[Outcome] = field(default_factory=list)
    failure: str | None = None
    memory: Memory | None = None

    def run(self, process: RunnerProcess, *, counted: bool) -> None:
        """Paint once, unless it failed before."""
        if self.failure is not None:
            return
        try:
            outcome = process.run(self.case)
        except RunnerError as error:
            self.failure = error.what
            return
        held = device_bytes(process.pid)
        self.memory = Memory(peak_resident=process.peak_resident, peak_device=held)
        if counted:
            self.outcomes.append(outcome)


def measure_latency(
    spec: RunnerSpec,
    launcher: Launcher,
    cases: Sequence[Case],
    *,
    warm_up: int,
    rounds: int,
    report: Callable[[tuple[Row, ...]], None] = lambda _: None,
) -> tuple[Row, ...]:
    """Measure all cases in turns, in one process that has the bundle loaded.

    Args:
        spec: The runner.
        launcher: Starts it.
        cases: What to measure.
        warm_up: Runs of each case that are not counted.
        rounds: Counted runs of each case.
        report: Called with what there is after each round.

    Returns:
        A row for each case. `memory` is that of the process, after this case's last run.

    Raises:
        RunnerError: The runner cannot start.
    """
    measured = [_Measured(case) for case in cases]
    launcher.prepare(spec)
    with launcher.launch(spec) as process:
        started = process.start(launcher.source(spec))
        for number in range(warm_up + rounds):
            for one in measured:
                launcher.progress(f"run {number + 1} of {warm_up + rounds}: {_label(one.case)}")
                one.run(process, counted=number >= warm_up)
            report(tuple(_row(spec, one, started, warm_up) for one in measured))
    return tuple(_row(spec, one, started, warm_up) for one in measured)


def add_work(rows: Sequence[Row], work: Sequence[CountedWork], peak: Peak | None) -> tuple[Row, ...]:
    """Rows of several cases with the work of each; see `CountedWork.add_to`."""
    return tuple(row for one, counted in zip(rows, work, strict=True) for row in counted.add_to([one], peak))


def _row(spec: RunnerSpec, one: _Measured, started: Started, warm_up: int) -> Row:
    steps = [step for outcome in one.outcomes for step in outcome.steps]
    series = {}
    if one.outcomes:
        series["total"] = make_series([outcome.total for outcome in one.outcomes], warm_up=warm_up)
        series["step"] = make_series(steps, warm_up=warm_up)
    return Row(
        name=spec.name,
        status="ok" if one.failure is None else "failed",
        reason=one.failure,
        case=_settings(one.case),
        series=series,
        stages=stage_series(one.outcomes, warm_up),
        memory=one.memory,
        versions=started.versions,
        notes=spec.notes,
    )


def _settings(case: Case) -> dict[str, str | int | float | bool | None]:
    return {
        "batch": case.batch,
        "width": case.width,
        "height": case.height,
        "steps": case.num_inference_steps,
        "sampler": case.sampler or "the checkpoint's own",
    }


def _label(case: Case) -> str:
    return ", ".join(f"{name} {value}" for name, value in _settings(case).items())


def latency_table(report: Report) -> str:
    """Every case: time of a request and of a step, and images a second."""
    pairs = zip(row_labels(report.rows), report.rows, strict=True)
    rows = [
        (
            label,
            *(duration(statistic_of(row, "total", name)) for name in ("median", "p90", "p99")),
            duration(statistic_of(row, "step")),
            _throughput(row),
            verdict(row) or "ok",
        )
        for label, row in pairs
    ]
    return table(("case", "median", "p90", "p99", "a step", "images / s", "verdict"), rows)


def _throughput(row: Row) -> str:
    seconds, batch = statistic_of(row, "total"), row.case.get("batch", 1)
    if not seconds or not isinstance(batch, int):
        return MISSING
    return number(batch / seconds)
