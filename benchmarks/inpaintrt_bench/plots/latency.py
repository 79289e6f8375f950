"""The distribution of latencies: every sample, and the median."""

from __future__ import annotations

from dataclasses import dataclass

from matplotlib.figure import Figure

from inpaintrt_bench.labels import row_labels
from inpaintrt_bench.plots.style import PALETTE, add_legend, new_figure
from inpaintrt_bench.schema import Report

__all__ = ["Spread", "draw_latencies", "spreads"]

_TIMES = ("total", "latency", "cold_start")
_WIDE = 10
_TRANSPARENCY = 0.5


@dataclass(frozen=True)
class Spread:
    """The samples of one row.

    Attributes:
        label: The row's name.
        samples: Seconds, in the order in which they were taken.
        median: Seconds.
    """

    label: str
    samples: tuple[float, ...]
    median: float


def spreads(report: Report) -> list[Spread]:
    """The samples of each row that has times of whole requests, or of first pictures."""
    found = []
    for label, row in zip(row_labels(report.rows), report.rows, strict=True):
        series = next((row.series[name] for name in _TIMES if name in row.series), None)
        if series is not None:
            found.append(Spread(label, series.samples, series.statistics.median))
    return found


def draw_latencies(report: Report) -> Figure:
    """Draw a dot for each sample and a line for each median, the first row on top."""
    rows = spreads(report)
    figure, (axes,) = new_figure(1.1 + 0.42 * len(rows))
    for index, row in enumerate(rows):
        axes.plot(
            row.samples,
            [index] * len(row.samples),
            "o",
            color=PALETTE[0],
            alpha=_TRANSPARENCY,
            markeredgewidth=0,
            label="a request" if index == 0 else None,
        )
        axes.plot(
            [row.median] * 2,
            [index - 0.35, index + 0.35],
            color=PALETTE[1],
            linewidth=2,
            label="median" if index == 0 else None,
        )
    every = [sample for row in rows for sample in row.samples]
    if every and max(every) > _WIDE * min(every):
        axes.set_xscale("log")
    else:
        axes.set_xlim(left=0)
    axes.set_yticks(range(len(rows)), [row.label for row in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlabel("seconds")
    add_legend(figure, axes, columns=2)
    return figure
