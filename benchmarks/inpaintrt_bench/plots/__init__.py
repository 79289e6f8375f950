"""Reports as plots."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from matplotlib.figure import Figure

from inpaintrt_bench.plots.latency import draw_latencies
from inpaintrt_bench.plots.masks import draw_masks
from inpaintrt_bench.plots.quality import draw_quality
from inpaintrt_bench.plots.stages import draw_stages
from inpaintrt_bench.plots.style import read_source, save_figure
from inpaintrt_bench.schema import Kind, Report

__all__ = ["PLOTS", "Plot", "read_source", "save_figure"]

Plot = Callable[[Report], Figure]

PLOTS: Mapping[Kind, Mapping[str, Plot]] = {
    "compare": {"stages": draw_stages, "latency": draw_latencies},
    "latency": {"latency": draw_latencies},
    "coldstart": {"latency": draw_latencies},
    "mask": {"mask": draw_masks},
    "quality": {"pareto": draw_quality},
    "serve": {"latency": draw_latencies},
}
"""The plots of each kind of report, by the end of their files' names."""
