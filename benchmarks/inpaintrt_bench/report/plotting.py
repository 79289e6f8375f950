"""How plots look and are stored, and the plots of more than one measurement."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from inpaintrt_bench.report.markdown import row_labels
from inpaintrt_bench.report.schema import Report

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "MARKERS",
    "PALETTE",
    "STAGE_COLORS",
    "Plot",
    "Spread",
    "add_legend",
    "draw_latencies",
    "new_figure",
    "read_source",
    "save_figure",
    "spreads",
]

Plot = Callable[[Report], "Figure"]
"""Draws a report."""

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442", "#999999")
"""Colors that color-blind readers can tell apart (Okabe and Ito, "Color universal design", 2008)."""

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")

STAGE_COLORS = {
    "prepare": PALETTE[4],
    "tokenise": PALETTE[6],
    "text_encode": PALETTE[3],
    "image_encode": PALETTE[5],
    "denoise": PALETTE[0],
    "image_decode": PALETTE[2],
    "paste": PALETTE[1],
    "rest": PALETTE[7],
}
_WIDTH = 7.6
_RESOLUTION = 110
_COLORS = 96
_SOURCE = "Source"
_TIMES = ("total", "latency", "cold_start")
_WIDE = 10
_TRANSPARENCY = 0.5


def new_figure(height: float, panels: int = 1) -> tuple[Figure, Sequence[Axes]]:
    """A figure with some panels side by side, on white, so that it can be read on any page.

    Args:
        height: In inches.
        panels: How many.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDTH, height), dpi=_RESOLUTION, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axes = [figure.add_subplot(1, panels, 1 + index) for index in range(panels)]
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(visible=True, color="#DDDDDD", linewidth=0.6)
        axis.set_axisbelow(True)
    return figure, axes


def add_legend(figure: Figure, axes: Axes, columns: int) -> None:
    """Explain what was drawn above the panels; nothing where nothing was drawn."""
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside upper center", ncols=columns, frameon=False)


def save_figure(figure: Figure, path: Path, source: str) -> None:
    """Write a figure as a small PNG.

    Args:
        figure: What was drawn.
        path: The file.
        source: What the figure was drawn from, for `read_source`.
    """
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    buffer.seek(0)
    information = PngInfo()
    information.add_text(_SOURCE, source)
    with Image.open(buffer) as image:
        # Few colors are in use, and a palette makes the file a third as large.
        image.convert("RGB").quantize(_COLORS, dither=Image.Dither.NONE).save(
            path, format="png", optimize=True, pnginfo=information
        )


def read_source(path: Path) -> str | None:
    """What a stored figure was drawn from; None for a file that is missing or not a figure of ours."""
    try:
        with Image.open(path) as image:
            source = image.info.get(_SOURCE)
    except OSError:
        return None
    return source if isinstance(source, str) else None


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
    """The samples of each row that has times of whole requests, or of first images."""
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
