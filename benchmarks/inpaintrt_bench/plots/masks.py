"""Cost against the mask's area."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from matplotlib.figure import Figure

from inpaintrt_bench.markdown.formatting import statistic_of, value_of
from inpaintrt_bench.plots.style import PALETTE, STAGE_COLOURS, add_legend, new_figure
from inpaintrt_bench.schema import STAGES, Report

__all__ = ["MaskCosts", "draw_masks", "mask_costs"]

_MEGABYTE = 1e6


@dataclass(frozen=True)
class MaskCosts:
    """What masks cost, by rising share.

    Attributes:
        shares: Of the picture, in percent.
        milliseconds: Median time of each stage, for each share.
        megabytes: Largest memory beyond what was resident before the first request, for each share.
    """

    shares: tuple[float, ...]
    milliseconds: Mapping[str, tuple[float, ...]]
    megabytes: tuple[float, ...]


def mask_costs(report: Report) -> MaskCosts:
    """The costs of the rows that are in order."""
    rows = sorted(
        (row for row in report.rows if row.status == "ok"), key=lambda row: float(str(row.case["share"]))
    )
    stages = [stage for stage in STAGES if any(stage in row.stages for row in rows)]
    peaks = [0 if row.memory is None else row.memory.peak_resident or 0 for row in rows]
    before = [value_of(row, "bytes_before") or 0 for row in rows]
    return MaskCosts(
        shares=tuple(100 * float(str(row.case["share"])) for row in rows),
        milliseconds={
            stage: tuple(1000 * (statistic_of(row, stage) or 0) for row in rows) for stage in stages
        },
        megabytes=tuple(
            max(peak - resident, 0) / _MEGABYTE for peak, resident in zip(peaks, before, strict=True)
        ),
    )


def draw_masks(report: Report) -> Figure:
    """Draw time by stages, and memory, over the mask's share."""
    costs = mask_costs(report)
    figure, (times, memory) = new_figure(3.4, panels=2)
    if costs.milliseconds:
        times.stackplot(
            costs.shares,
            *costs.milliseconds.values(),
            labels=[stage.replace("_", " ") for stage in costs.milliseconds],
            colors=[STAGE_COLOURS[stage] for stage in costs.milliseconds],
        )
    times.set_ylabel("time of a request in milliseconds")
    memory.plot(costs.shares, costs.megabytes, "o-", color=PALETTE[1])
    memory.set_ylabel("memory of a request in megabytes")
    for axes in (times, memory):
        axes.set_xlabel("mask's share of the picture in percent")
        axes.set_xlim(left=0)
        axes.set_ylim(bottom=0)
    add_legend(figure, times, columns=3)
    return figure
