"""One runner in a measurement: its process, what it measured, and the row that it becomes."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from inpaintrt_bench.report.image_comparison import compare_images, why_wrong
from inpaintrt_bench.report.machine import GpuReadings, joules
from inpaintrt_bench.report.schema import (
    STAGES,
    ImageComparison,
    Memory,
    Row,
    Series,
    Status,
    make_series,
    pair_ratios,
)
from inpaintrt_bench.runners.catalogue import RunnerSpec
from inpaintrt_bench.runners.launching import Launcher
from inpaintrt_bench.runners.process import RunnerError, RunnerProcess, Started
from inpaintrt_bench.workers.messages import Case, Outcome

__all__ = ["MeasuredRunner", "stage_series"]

Pixels = NDArray[np.uint8]


class MeasuredRunner:
    """A runner while it is measured.

    Args:
        spec: The runner.
        launcher: Starts its process.
        limits: How near its images must be to the reference's.

    Attributes:
        spec: The runner.
        failure: Why it was stopped; None while it runs.
        totals: Seconds of each counted run.
    """

    def __init__(self, spec: RunnerSpec, launcher: Launcher, limits: Mapping[str, float]) -> None:
        self.spec = spec
        self.failure: str | None = None
        self.totals: list[float] = []
        self._launcher, self._limits = launcher, limits
        self._process: RunnerProcess | None = None
        self._started: Started | None = None
        self._first_image: float | None = None
        self._outcomes: list[Outcome] = []
        self._worst: ImageComparison | None = None
        self._warm_ups = 0
        self._gpu = GpuReadings()
        self._peak_resident: int | None = None

    def start(self) -> None:
        """Prepare, start the process, and load; a failure is kept as the row's reason."""
        try:
            self._launcher.prepare(self.spec)
            self._launcher.progress(f"{self.spec.name}: starting")
            self._process = self._launcher.launch(self.spec)
            self._started = self._process.start(self._launcher.source(self.spec))
        except RunnerError as error:
            self.fail(error.what)

    def warm_up(self, case: Case) -> None:
        """Paint without counting; the first time of all also ends the cold start."""
        if self._paint(case) is not None:
            self._warm_ups += 1

    def measure(self, case: Case) -> Pixels | None:
        """Paint once and count it.

        Returns:
            The images; None if the runner could not start, or has failed.
        """
        before = joules()
        outcome = self._paint(case)
        if outcome is None or self._process is None:
            return None
        self._gpu.take(self._process.pid, before)
        self.totals.append(outcome.total)
        self._outcomes.append(outcome)
        return outcome.images

    def compare(self, images: Pixels, reference: Pixels, name: str) -> None:
        """Compare images with the reference's; the worst of all rounds counts."""
        try:
            found = compare_images(images, reference, name, self._limits)
        except ValueError as error:
            self.fail(str(error))
            return
        if self._worst is None or found.mean_difference > self._worst.mean_difference:
            self._worst = found

    def fail(self, reason: str) -> None:
        """Stop, and keep the reason for the row."""
        self.failure = reason
        self._launcher.progress(f"{self.spec.name}: failed: {reason}")
        self.stop(at_once=True)

    def stop(self, *, at_once: bool = False) -> None:
        """End the process; `at_once` if it may be busy."""
        if self._process is not None:
            if at_once:
                self._process.kill()
            else:
                self._process.close()
            self._process = None

    def _paint(self, case: Case) -> Outcome | None:
        if self._process is None:
            return None
        try:
            outcome = self._process.run(case)
        except RunnerError as error:
            self.fail(error.what)
            return None
        if self._first_image is None:
            self._first_image = time.perf_counter() - self._process.born
        self._peak_resident = self._process.peak_resident
        return outcome

    def row(self, baseline: MeasuredRunner | None) -> Row:
        """What was measured so far."""
        status, reason = self._verdict()
        return Row(
            name=self.spec.name,
            status=status,
            reason=reason,
            series=self._series(baseline),
            stages=stage_series(self._outcomes, self._warm_ups),
            memory=self._memory(),
            picture=self._worst,
            versions={} if self._started is None else self._started.versions,
            notes=self._notes(),
        )

    def _notes(self) -> tuple[str, ...]:
        return (*self.spec.notes, *(self._outcomes[-1].notes if self._outcomes else ()))

    def _verdict(self) -> tuple[Status, str | None]:
        if self.failure is not None:
            return "failed", self.failure
        wrong = None if self._worst is None else why_wrong(self._worst)
        return ("ok", None) if wrong is None else ("wrong", wrong)

    def _series(self, baseline: MeasuredRunner | None) -> dict[str, Series]:
        series = {}
        if self._started is not None:
            series["import"] = make_series([self._started.import_seconds])
            series["start"] = make_series([self._started.start_seconds])
        if self._first_image is not None:
            series["cold_start"] = make_series([self._first_image])
        if self._outcomes:
            steps = [step for outcome in self._outcomes for step in outcome.steps]
            series["total"] = make_series(self.totals, warm_up=self._warm_ups)
            series["step"] = make_series(steps, warm_up=self._warm_ups)
        series |= self._gpu.series(self._warm_ups)
        rounds = min(len(self.totals), 0 if baseline is None else len(baseline.totals))
        if baseline is not None and rounds:
            ratios = pair_ratios(self.totals[:rounds], baseline.totals[:rounds])
            series["ratio"] = make_series(ratios, "ratio", warm_up=self._warm_ups)
        return series

    def _memory(self) -> Memory | None:
        if self._first_image is None:
            return None
        return Memory(peak_resident=self._peak_resident, peak_device=max(self._gpu.bytes, default=None))


def stage_series(outcomes: Sequence[Outcome], warm_up: int) -> dict[str, Series]:
    """The parts of runs, in the order of STAGES; `rest` is the total without the others."""
    samples: dict[str, list[float]] = defaultdict(list)
    for outcome in outcomes:
        for stage, seconds in outcome.stages.items():
            samples[stage].append(seconds)
        samples["rest"].append(outcome.total - sum(outcome.stages.values()))
    return {
        stage: make_series(samples[stage], warm_up=warm_up)
        for stage in STAGES
        if len(samples[stage]) == len(outcomes) > 0
    }
