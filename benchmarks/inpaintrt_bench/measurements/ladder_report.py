"""The table and the plot of `inpaintrt bench ladder`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from inpaintrt_bench.report.markdown import (
    MISSING,
    amount,
    duration,
    number,
    peak_memory,
    percent,
    statistic_of,
    table,
    value_of,
    verdict,
)
from inpaintrt_bench.report.plotting import PALETTE, new_figure
from inpaintrt_bench.report.schema import Report, Row

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["draw_ladder", "ladder_table", "rung_text"]

_ROOM_FOR_TEXTS = 1.5


def ladder_table(report: Report) -> str:
    """Every rung: time, alone and beside the first, memory, and what its images show."""
    header = (
        *("rung", "settings", "median", "time / first's", "peak memory"),
        *("found", "seam", "PSNR in the mask", "verdict"),
    )
    rows = [(row.name, _settings(row), *_figures(row), verdict(row) or "ok") for row in report.rows]
    return table(header, rows, texts=2)


def _settings(row: Row) -> str:
    """Steps, sampler, and where guidance acts if not everywhere."""
    steps, sampler, stop = (row.case.get(name) for name in ("steps", "sampler", "guidance_stop"))
    parts = [] if steps is None else [f"{steps} steps"]
    parts += [] if sampler is None else [str(sampler)]
    if isinstance(stop, int | float) and stop < 1:
        parts.append(f"guidance to {stop:g}")
    return ", ".join(parts) or MISSING


def _figures(row: Row) -> tuple[str, ...]:
    ratio, seam, psnr = statistic_of(row, "ratio"), value_of(row, "seam"), value_of(row, "psnr")
    share = value_of(row, "share_found")
    found = f"{percent(share, 1)} ± {percent(value_of(row, 'standard_error'), 1)}"
    return (
        duration(statistic_of(row, "total")),
        MISSING if ratio is None else f"{ratio:.2f}",
        amount(peak_memory(row)),
        MISSING if share is None else found,
        MISSING if seam is None else number(seam),
        MISSING if psnr is None else f"{psnr:.1f} dB",
    )


def rung_text(row: Row) -> str:
    """The text beside a rung's bar: its ratio, and what its images show."""
    ratio, share, psnr = statistic_of(row, "ratio"), value_of(row, "share_found"), value_of(row, "psnr")
    parts = [duration(statistic_of(row, "total"))]
    parts += [] if ratio is None else [f"{ratio:.2f}x"]
    parts += [] if share is None else [f"{percent(share)} found"]
    parts += [] if psnr is None else [f"{psnr:.0f} dB"]
    return ", ".join(parts)


def draw_ladder(report: Report) -> Figure:
    """Draw a bar of the median time for each rung that was measured, the first on top."""
    rows = [row for row in report.rows if "total" in row.series]
    times = [row.series["total"].statistics.median for row in rows]
    figure, (axes,) = new_figure(1.0 + 0.42 * len(rows))
    colors = [PALETTE[7] if index == 0 else PALETTE[0] for index in range(len(rows))]
    axes.barh(range(len(rows)), times, height=0.62, color=colors)
    for index, (row, seconds) in enumerate(zip(rows, times, strict=True)):
        axes.annotate(rung_text(row), (seconds, index), (4, 0), textcoords="offset points", va="center")
    axes.set_yticks(range(len(rows)), [row.name for row in rows])
    axes.invert_yaxis()
    axes.set_xlim(0, _ROOM_FOR_TEXTS * max(times, default=1.0))
    axes.set_xlabel("seconds for an image (median)")
    return figure
