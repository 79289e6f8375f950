"""Ours beside others: the same work, in turns, each picture compared with PyTorch's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inpaintrt_bench.contestants import Contestant
from inpaintrt_bench.runners.catalogue import BASELINE, RunnerSpec
from inpaintrt_bench.runners.launching import Launcher
from inpaintrt_bench.schema import Row
from inpaintrt_bench.workers.messages import Case

__all__ = ["Comparison", "compare"]

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """How to compare.

    Attributes:
        case: The work of every run.
        warm_up: Runs of each that are not counted; the first of them ends the cold start.
        rounds: Counted runs of each. In a round everybody runs once: A B C, A B C, and so on.
        in_pairs: Keep only the baseline and one other in memory at a time and restart the baseline.
        limits: How near the pictures must be to the baseline's, from `pictures.LIMITS`.
    """

    case: Case
    warm_up: int
    rounds: int
    in_pairs: bool
    limits: Mapping[str, float]


def compare(
    specs: Sequence[RunnerSpec],
    launcher: Launcher,
    settings: Comparison,
    report: Callable[[tuple[Row, ...]], None] = lambda _: None,
) -> tuple[Row, ...]:
    """Measure runners beside each other.

    Args:
        specs: The runners; the baseline comes first if it is among them.
        launcher: Starts them.
        settings: How to compare.
        report: Called with what there is after each round, so that nothing is lost if the next is cut off.

    Returns:
        A row for each runner: measured, wrong, or with the reason why it failed.
    """
    rows: tuple[Row, ...] = ()
    for group in _groups(specs, in_pairs=settings.in_pairs):
        known = {row.name for row in rows}
        finished = rows

        def tell(new: Sequence[Row], known: set[str] = known, finished: tuple[Row, ...] = finished) -> None:
            report((*finished, *(row for row in new if row.name not in known)))

        new = _measure(group, launcher, settings, tell)
        rows = (*rows, *(row for row in new if row.name not in known))
    return rows


def _groups(specs: Sequence[RunnerSpec], *, in_pairs: bool) -> list[list[RunnerSpec]]:
    baseline = [spec for spec in specs if spec.name == BASELINE]
    others = [spec for spec in specs if spec.name != BASELINE]
    if not in_pairs or not others:
        return [[*baseline, *others]]
    return [[*baseline, other] for other in others]


def _measure(
    group: Sequence[RunnerSpec],
    launcher: Launcher,
    settings: Comparison,
    report: Callable[[Sequence[Row]], None],
) -> list[Row]:
    contestants = [Contestant(spec, launcher, settings.limits) for spec in group]
    baseline = next((one for one in contestants if one.spec.name == BASELINE), None)
    try:
        for contestant in contestants:
            contestant.enter()
            for _ in range(settings.warm_up):
                contestant.warm_up(settings.case)
        for number in range(1, settings.rounds + 1):
            launcher.progress(
                f"round {number} of {settings.rounds}: {', '.join(spec.name for spec in group)}"
            )
            _one_round(contestants, baseline, settings.case)
            report([contestant.row(baseline) for contestant in contestants])
    except BaseException:  # an interrupt from the keyboard, most of all
        for contestant in contestants:
            contestant.leave(at_once=True)
        raise
    for contestant in contestants:
        contestant.leave()
    return [contestant.row(baseline) for contestant in contestants]


def _one_round(contestants: Sequence[Contestant], baseline: Contestant | None, case: Case) -> None:
    reference: Pixels | None = None
    for contestant in contestants:
        pictures = contestant.compete(case)
        if contestant is baseline:
            reference = pictures
        elif pictures is not None and reference is not None:
            contestant.judge(pictures, reference, BASELINE)
