"""Tables of other costs: installations, builds, masks, settings."""

from __future__ import annotations

from inpaintrt_bench.markdown.formatting import (
    MISSING,
    amount,
    duration,
    number,
    percent,
    statistic_of,
    table,
    value_of,
    verdict,
)
from inpaintrt_bench.pareto import pareto_front
from inpaintrt_bench.schema import STAGES, Report, Row

__all__ = ["build_table", "front_rows", "mask_table", "overhead_table", "quality_table", "size_table"]

_PACKAGE = "package/"
_LARGEST = 3


def overhead_table(report: Report) -> str:
    """Each cost of the runtime itself: the median share of a run, or the median time."""
    return table(("the runtime's own cost", "median"), [(row.name, _cost(row)) for row in report.rows])


def _cost(row: Row) -> str:
    share = statistic_of(row, "share")
    return duration(statistic_of(row, "total")) if share is None else percent(share, 1)


def size_table(report: Report) -> str:
    """Every installation: its size, how many packages it has, and the largest of them."""
    rows = [(row.name, *_size(row), verdict(row) or "; ".join(row.notes)) for row in report.rows]
    return table(("installed", "size", "packages", "the largest", ""), rows)


def _size(row: Row) -> tuple[str, str, str]:
    packages = [name for name in row.values if name.startswith(_PACKAGE)]
    if not packages:
        return MISSING, MISSING, MISSING
    largest = [f"{name.removeprefix(_PACKAGE)} {amount(value_of(row, name))}" for name in packages[:_LARGEST]]
    return amount(value_of(row, "bytes")), str(len(packages)), ", ".join(largest)


def build_table(report: Report) -> str:
    """Everything that was made: its time, the memory that this took, and its size."""
    rows = [
        (
            row.name.replace("_", " "),
            str(row.case.get("made", MISSING)),
            duration(value_of(row, "seconds")),
            amount(None if row.memory is None else row.memory.peak_resident),
            amount(value_of(row, "bytes")),
            verdict(row) or "ok",
        )
        for row in report.rows
    ]
    return table(("part", "made by", "time", "peak memory", "size", "verdict"), rows, texts=2)


def mask_table(report: Report) -> str:
    """Every share of the mask: what of the picture runs, the median of each stage, and memory."""
    stages = [stage for stage in STAGES if any(stage in row.stages for row in report.rows)]
    rows = [
        (
            row.name,
            percent(value_of(row, "box_share")),
            *(duration(statistic_of(row, stage)) for stage in stages),
            duration(statistic_of(row, "total")),
            amount(None if row.memory is None else row.memory.peak_resident),
        )
        for row in report.rows
    ]
    titles = [stage.replace("_", " ") for stage in stages]
    return table(("mask", "part that runs", *titles, "total", "peak memory"), rows, texts=0)


def quality_table(report: Report) -> str:
    """The settings that no other beats: what they cost, and how good their pictures are."""
    rows = [
        (
            row.name,
            str(row.case.get("precision", MISSING)),
            str(row.case.get("steps", MISSING)),
            f"{row.case.get('guidance_start', 0):g} to {row.case.get('guidance_stop', 1):g}",
            number(value_of(row, "unet_evaluations") or 0, 1),
            duration(statistic_of(row, "total")),
            f"{percent(value_of(row, 'share_found'))} ± {percent(value_of(row, 'standard_error'))}",
            number(value_of(row, "seam") or 0),
        )
        for row in front_rows(report.rows)
    ]
    header = ("sampler", "precision", "steps", "guidance in", "UNet evaluations", "median", "found", "seam")
    return table(header, rows, texts=2)


def front_rows(rows: tuple[Row, ...]) -> list[Row]:
    """The rows on the Pareto front of UNet evaluations and the share that is found, by rising cost."""
    costs = [value_of(row, "unet_evaluations") or 0.0 for row in rows]
    gains = [value_of(row, "share_found") or 0.0 for row in rows]
    return [rows[index] for index in pareto_front(costs, gains)]
