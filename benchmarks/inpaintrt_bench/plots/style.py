"""How plots look, and how they are stored."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from PIL.PngImagePlugin import PngInfo

__all__ = ["MARKERS", "PALETTE", "STAGE_COLOURS", "add_legend", "new_figure", "read_source", "save_figure"]

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442", "#999999")
"""Colours that colour-blind readers can tell apart (Okabe and Ito, "Color universal design", 2008)."""

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")

STAGE_COLOURS = {
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
_COLOURS = 96
_SOURCE = "Source"


def new_figure(height: float, panels: int = 1) -> tuple[Figure, Sequence[Axes]]:
    """A figure with some panels side by side, on white, so that it can be read on any page.

    Args:
        height: In inches.
        panels: How many.
    """
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
    with Image.open(buffer) as picture:
        # Few colours are in use, and a palette makes the file a third as large.
        picture.convert("RGB").quantize(_COLOURS, dither=Image.Dither.NONE).save(
            path, format="png", optimize=True, pnginfo=information
        )


def read_source(path: Path) -> str | None:
    """What a stored figure was drawn from; None for a file that is missing or not a figure of ours."""
    try:
        with Image.open(path) as picture:
            source = picture.info.get(_SOURCE)
    except OSError:
        return None
    return source if isinstance(source, str) else None
