"""How long one bundle takes: a sweep over batch, size, steps and samplers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from inpaintrt_bench import gpus
from inpaintrt_bench.contestants import stage_series
from inpaintrt_bench.runners.catalogue import RunnerSpec
from inpaintrt_bench.runners.errors import RunnerError
from inpaintrt_bench.runners.launching import Launcher
from inpaintrt_bench.runners.process import RunnerProcess, Started
from inpaintrt_bench.schema import Memory, Peak, Row
from inpaintrt_bench.statistics import make_series
from inpaintrt_bench.work import add_work
from inpaintrt_bench.workers.messages import Case, Outcome

__all__ = ["measure_latency"]


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
        held = gpus.device_bytes(process.pid)
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
    peak: Peak | None,
    report: Callable[[tuple[Row, ...]], None] = lambda _: None,
) -> tuple[Row, ...]:
    """Measure all cases in turns, in one process that has the bundle loaded.

    Args:
        spec: The runner.
        launcher: Starts it.
        cases: What to measure.
        warm_up: Runs of each case that are not counted.
        rounds: Counted runs of each case.
        peak: The machine's, for the share of it.
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
    return tuple(
        row
        for one in measured
        for row in add_work([_row(spec, one, started, warm_up)], launcher.bundle, one.case, peak)
    )


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
