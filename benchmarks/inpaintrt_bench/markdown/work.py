"""The table of counted work: how near to the machine's peak every component runs."""

from __future__ import annotations

from inpaintrt_bench.labels import row_labels
from inpaintrt_bench.markdown.formatting import duration, number, percent, table
from inpaintrt_bench.schema import Report

__all__ = ["work_table"]

_BILLION = 1e9


def work_table(report: Report) -> str:
    """Every component of every row: operations of one run, its time, and the share of the machine's peak."""
    rows = [
        (
            label,
            component.replace("_", " "),
            number(work.operations / _BILLION),
            str(work.runs),
            duration(work.seconds),
            percent(work.share_of_peak),
        )
        for label, row in zip(row_labels(report.rows), report.rows, strict=True)
        for component, work in row.work.items()
    ]
    header = ("", "component", "billion operations a run", "runs", "time of a run", "of the machine's peak")
    return table(header, rows, texts=2)
