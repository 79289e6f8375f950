"""Reports as Markdown tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from inpaintrt_bench.markdown.costs import build_table, mask_table, quality_table, size_table
from inpaintrt_bench.markdown.speed import (
    coldstart_table,
    compare_table,
    latency_table,
    serve_table,
    stages_table,
)
from inpaintrt_bench.schema import Kind, Report

__all__ = ["TABLES", "Table", "stages_table"]

Table = Callable[[Report], str]

TABLES: Mapping[Kind, Table] = {
    "compare": compare_table,
    "latency": latency_table,
    "coldstart": coldstart_table,
    "size": size_table,
    "build": build_table,
    "mask": mask_table,
    "quality": quality_table,
    "serve": serve_table,
}
"""The main table of each kind of report."""
