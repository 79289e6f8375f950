"""Reports as Markdown tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from inpaintrt_bench.markdown.costs import (
    build_table,
    mask_table,
    overhead_table,
    quality_table,
    size_table,
)
from inpaintrt_bench.markdown.endurance import hostile_table, memory_table, soak_table
from inpaintrt_bench.markdown.origin import origin
from inpaintrt_bench.markdown.speed import (
    coldstart_table,
    compare_table,
    latency_table,
    serve_table,
    stages_table,
)
from inpaintrt_bench.markdown.work import work_table
from inpaintrt_bench.schema import Kind, Report

__all__ = ["TABLES", "VIEWS", "Table"]

Table = Callable[[Report], str]

TABLES: Mapping[Kind, Table] = {
    "compare": compare_table,
    "latency": latency_table,
    "coldstart": coldstart_table,
    "overhead": overhead_table,
    "size": size_table,
    "build": build_table,
    "mask": mask_table,
    "quality": quality_table,
    "serve": serve_table,
    "hostile": hostile_table,
    "soak": soak_table,
    "memory": memory_table,
}
"""The main table of each kind of report."""

VIEWS: Mapping[str, Table] = {"stages": stages_table, "work": work_table, "origin": origin}
"""What else can be told of any report."""
