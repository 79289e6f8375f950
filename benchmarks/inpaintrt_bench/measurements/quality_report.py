"""The table and the plot of `inpaintrt bench quality`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from inpaintrt_bench.measurements.quality_choice import EXACT
from inpaintrt_bench.report.markdown import (
    MISSING,
    duration,
    number,
    percent,
    statistic_of,
    table,
    value_of,
)
from inpaintrt_bench.report.pareto import pareto_front
from inpaintrt_bench.report.plotting import MARKERS, PALETTE, add_legend, new_figure
from inpaintrt_bench.report.schema import Report, Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["QualityPoint", "draw_quality", "front_rows", "quality_points", "quality_table"]

_WHOLE_RUN = (0.0, 1.0)


def quality_table(report: Report) -> str:
    """The settings that no other beats, after the exact ones: their cost, and how good their images are."""
    exact = [row for row in report.rows if row.name == EXACT]
    rows = [
        (
            row.name,
            str(row.case.get("steps", MISSING)),
            f"{row.case.get('guidance_start', 0):g} to {row.case.get('guidance_stop', 1):g}",
            number(value_of(row, "unet_evaluations") or 0, 1),
            duration(statistic_of(row, "total")),
            _figure(statistic_of(row, "ratio"), ""),
            _found(row),
            _figure(value_of(row, "seam"), ""),
            _figure(value_of(row, "psnr"), " dB"),
        )
        for row in [*exact, *(row for row in front_rows(report.rows) if row.name != EXACT)]
    ]
    header = (
        "sampler",
        "steps",
        "guidance in",
        "UNet evaluations",
        "median",
        "time / exact",
        "found",
        "seam",
    )
    return table((*header, "PSNR in the mask"), rows)


def _figure(value: float | None, unit: str) -> str:
    return MISSING if value is None else f"{number(value)}{unit}"


def _found(row: Row) -> str:
    share = value_of(row, "share_found")
    return MISSING if share is None else f"{percent(share)} ± {percent(value_of(row, 'standard_error'))}"


def front_rows(rows: tuple[Row, ...]) -> list[Row]:
    """The rows on the Pareto front of UNet evaluations and what they give, by rising cost.

    What they give is the share that is found, or without a judge the PSNR to the exact images.
    """
    gain = "share_found" if any("share_found" in row.values for row in rows) else "psnr"
    costs = [value_of(row, "unet_evaluations") or 0.0 for row in rows]
    gains = [value_of(row, gain) or 0.0 for row in rows]
    return [rows[index] for index in pareto_front(costs, gains)]


@dataclass(frozen=True)
class QualityPoint:
    """One setting.

    Attributes:
        group: Sampler, and the precision where there are several: what color and marker stand for.
        label: What else sets it apart: steps, and the guidance interval if it is not the whole run.
        evaluations: Of the UNet, for one image.
        seconds: Median time of one image.
        gain: Percentage of images that hold what was asked for; without a judge, PSNR in the mask in dB.
        error: Standard error of a percentage; 0 without a judge.
    """

    group: str
    label: str
    evaluations: float
    seconds: float
    gain: float
    error: float


def quality_points(report: Report) -> list[QualityPoint]:
    """A point for each row."""
    several = len({row.case.get("precision") for row in report.rows}) > 1
    return [_point(row, name_precision=several) for row in report.rows]


def _point(row: Row, *, name_precision: bool) -> QualityPoint:
    interval = row.case.get("guidance_start", 0), row.case.get("guidance_stop", 1)
    share = value_of(row, "share_found")
    guidance = "" if interval == _WHOLE_RUN else f", {interval[0]:g} to {interval[1]:g}"
    return QualityPoint(
        group=f"{row.name} {row.case.get('precision')}" if name_precision else row.name,
        label=f"{row.case.get('steps')} steps{guidance}",
        evaluations=value_of(row, "unet_evaluations") or 0.0,
        seconds=statistic_of(row, "total") or 0.0,
        gain=100 * share if share is not None else value_of(row, "psnr") or 0.0,
        error=100 * (value_of(row, "standard_error") or 0.0),
    )


def draw_quality(report: Report) -> Figure:
    """Draw what is found, or the PSNR, over UNet evaluations and over time, with the Pareto front of each."""
    points = quality_points(report)
    figure, (work, time) = new_figure(4.4, panels=2)
    _draw_panel(work, points, [point.evaluations for point in points])
    _draw_panel(time, points, [point.seconds for point in points])
    work.set_xlabel("UNet evaluations for an image")
    time.set_xlabel("seconds for an image (median)")
    if any("share_found" in row.values for row in report.rows):
        work.set_ylabel("images that hold what was asked for, in percent")
        for axes in (work, time):
            axes.set_ylim(0, 105)
    else:
        work.set_ylabel("PSNR in the mask to the exact images, in dB")
    add_legend(figure, work, columns=4)
    return figure


def _draw_panel(axes: Axes, points: Sequence[QualityPoint], costs: Sequence[float]) -> None:
    groups = list(dict.fromkeys(point.group for point in points))
    for place, group in enumerate(groups):
        members = [index for index, point in enumerate(points) if point.group == group]
        axes.plot(
            [costs[index] for index in members],
            [points[index].gain for index in members],
            MARKERS[place % len(MARKERS)],
            color=PALETTE[place % len(PALETTE)],
            markersize=5,
            label=group,
        )
    front = pareto_front(costs, [point.gain for point in points])
    axes.errorbar(
        [costs[index] for index in front],
        [points[index].gain for index in front],
        yerr=[points[index].error for index in front],
        color="#444444",
        linewidth=1,
        capsize=2,
        zorder=1,
        label="not beaten (± standard error)",
    )
    for index in front:
        axes.annotate(
            points[index].label,
            (costs[index], points[index].gain),
            (5, -10),
            textcoords="offset points",
            fontsize=7,
        )
    axes.set_xlim(left=0)
