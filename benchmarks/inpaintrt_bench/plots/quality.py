"""Quality against cost, and the settings that no other beats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from inpaintrt_bench.markdown.formatting import statistic_of, value_of
from inpaintrt_bench.pareto import pareto_front
from inpaintrt_bench.plots.style import MARKERS, PALETTE, add_legend, new_figure
from inpaintrt_bench.schema import Report, Row

__all__ = ["QualityPoint", "draw_quality", "quality_points"]

_WHOLE_RUN = (0, 1)


@dataclass(frozen=True)
class QualityPoint:
    """One setting.

    Attributes:
        group: Sampler, and the precision where there are several: what colour and marker stand for.
        label: What else sets it apart: steps, and the guidance interval if it is not the whole run.
        evaluations: Of the UNet, for one picture.
        seconds: Median time of one picture.
        found: Percentage of pictures that hold what was asked for.
        error: Standard error of `found`, in percent.
    """

    group: str
    label: str
    evaluations: float
    seconds: float
    found: float
    error: float


def quality_points(report: Report) -> list[QualityPoint]:
    """A point for each row."""
    several = len({row.case.get("precision") for row in report.rows}) > 1
    return [_point(row, name_precision=several) for row in report.rows]


def _point(row: Row, *, name_precision: bool) -> QualityPoint:
    interval = row.case.get("guidance_start", 0), row.case.get("guidance_stop", 1)
    guidance = "" if interval == _WHOLE_RUN else f", {interval[0]:g} to {interval[1]:g}"
    return QualityPoint(
        group=f"{row.name} {row.case.get('precision')}" if name_precision else row.name,
        label=f"{row.case.get('steps')} steps{guidance}",
        evaluations=value_of(row, "unet_evaluations") or 0.0,
        seconds=statistic_of(row, "total") or 0.0,
        found=100 * (value_of(row, "share_found") or 0.0),
        error=100 * (value_of(row, "standard_error") or 0.0),
    )


def draw_quality(report: Report) -> Figure:
    """Draw what is found over UNet evaluations and over time, with the Pareto front of each."""
    points = quality_points(report)
    figure, (work, time) = new_figure(4.4, panels=2)
    _draw_panel(work, points, [point.evaluations for point in points])
    _draw_panel(time, points, [point.seconds for point in points])
    work.set_xlabel("UNet evaluations for a picture")
    time.set_xlabel("seconds for a picture (median)")
    work.set_ylabel("pictures that hold what was asked for, in percent")
    add_legend(figure, work, columns=4)
    return figure


def _draw_panel(axes: Axes, points: Sequence[QualityPoint], costs: Sequence[float]) -> None:
    groups = list(dict.fromkeys(point.group for point in points))
    for index, group in enumerate(groups):
        members = [number for number, point in enumerate(points) if point.group == group]
        axes.plot(
            [costs[number] for number in members],
            [points[number].found for number in members],
            MARKERS[index % len(MARKERS)],
            color=PALETTE[index % len(PALETTE)],
            markersize=5,
            label=group,
        )
    front = pareto_front(costs, [point.found for point in points])
    axes.errorbar(
        [costs[number] for number in front],
        [points[number].found for number in front],
        yerr=[points[number].error for number in front],
        color="#444444",
        linewidth=1,
        capsize=2,
        zorder=1,
        label="not beaten (± standard error)",
    )
    for number in front:
        axes.annotate(
            points[number].label,
            (costs[number], points[number].found),
            (5, -10),
            textcoords="offset points",
            fontsize=7,
        )
    axes.set_xlim(left=0)
    axes.set_ylim(0, 105)
