"""Stage bars: where the time of a request goes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from matplotlib.figure import Figure

from inpaintrt_bench.labels import row_labels
from inpaintrt_bench.plots.style import STAGE_COLOURS, add_legend, new_figure
from inpaintrt_bench.schema import STAGES, Report

__all__ = ["StageBar", "draw_stages", "stage_bars"]

_ROOM_FOR_TOTALS = 1.12


@dataclass(frozen=True)
class StageBar:
    """One row as a bar.

    Attributes:
        label: The row's name.
        seconds: Median time of each stage that was measured, in the order of `STAGES`.
    """

    label: str
    seconds: Mapping[str, float]

    @property
    def total(self) -> float:
        """Length of the bar."""
        return sum(self.seconds.values())


def stage_bars(report: Report) -> list[StageBar]:
    """A bar for each row that has stages."""
    return [
        StageBar(
            label,
            {stage: row.stages[stage].statistics.median for stage in STAGES if stage in row.stages},
        )
        for label, row in zip(row_labels(report.rows), report.rows, strict=True)
        if row.stages
    ]


def draw_stages(report: Report) -> Figure:
    """Draw a stacked horizontal bar for each row, the first on top."""
    bars = stage_bars(report)
    figure, (axes,) = new_figure(1.6 + 0.42 * len(bars))
    ends = [0.0] * len(bars)
    for stage in STAGES:
        if not any(stage in bar.seconds for bar in bars):
            continue
        widths = [bar.seconds.get(stage, 0.0) for bar in bars]
        axes.barh(
            range(len(bars)),
            widths,
            left=ends,
            height=0.62,
            color=STAGE_COLOURS[stage],
            label=stage.replace("_", " "),
        )
        ends = [end + width for end, width in zip(ends, widths, strict=True)]
    for index, bar in enumerate(bars):
        axes.annotate(
            f"{bar.total:.3g} s", (bar.total, index), (4, 0), textcoords="offset points", va="center"
        )
    axes.set_yticks(range(len(bars)), [bar.label for bar in bars])
    axes.invert_yaxis()
    axes.set_xlim(0, _ROOM_FOR_TOTALS * max((bar.total for bar in bars), default=1.0))
    axes.set_xlabel("time of a request in seconds (sum of the stages' medians)")
    add_legend(figure, axes, columns=4)
    return figure
