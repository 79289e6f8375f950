"""Tables of time: runners beside each other, their stages, one bundle's latencies, the first picture."""

from __future__ import annotations

from inpaintrt_bench.labels import row_labels
from inpaintrt_bench.markdown.formatting import (
    MISSING,
    amount,
    duration,
    number,
    statistic_of,
    table,
    value_of,
    verdict,
)
from inpaintrt_bench.schema import STAGES, Report, Row

__all__ = ["coldstart_table", "compare_table", "latency_table", "serve_table", "stages_table"]


def compare_table(report: Report) -> str:
    """Every runner: time of a request, alone and beside the baseline, memory, and how near its picture is."""
    header = (
        "runner",
        "median",
        "p90",
        "time / baseline's",
        "peak memory",
        "largest difference",
        "PSNR",
        "verdict",
    )
    pairs = zip(row_labels(report.rows), report.rows, strict=True)
    return table(header, [(label, *_comparison(row), verdict(row) or "ok") for label, row in pairs])


def _comparison(row: Row) -> tuple[str, ...]:
    ratio, picture = statistic_of(row, "ratio"), row.picture
    return (
        duration(statistic_of(row, "total")),
        duration(statistic_of(row, "total", "p90")),
        MISSING if ratio is None else f"{ratio:.2f}",
        amount(_peak(row)),
        MISSING if picture is None else f"{picture.max_difference:.0f}/255",
        _psnr(row),
    )


def _peak(row: Row) -> int | None:
    return None if row.memory is None else row.memory.peak_device or row.memory.peak_resident


def _psnr(row: Row) -> str:
    if row.picture is None:
        return MISSING
    return "equal" if row.picture.psnr is None else f"{row.picture.psnr:.1f} dB"


def stages_table(report: Report) -> str:
    """Every runner: median time of each stage."""
    stages = [stage for stage in STAGES if any(stage in row.stages for row in report.rows)]
    pairs = zip(row_labels(report.rows), report.rows, strict=True)
    rows = [
        (
            label,
            *(duration(statistic_of(row, stage)) for stage in stages),
            duration(statistic_of(row, "total")),
        )
        for label, row in pairs
        if row.stages
    ]
    return table(("", *(stage.replace("_", " ") for stage in stages), "total"), rows)


def latency_table(report: Report) -> str:
    """Every case: time of a request and of a step, and pictures a second."""
    pairs = zip(row_labels(report.rows), report.rows, strict=True)
    rows = [
        (
            label,
            *(duration(statistic_of(row, "total", name)) for name in ("median", "p90", "p99")),
            duration(statistic_of(row, "step")),
            _throughput(row),
            verdict(row) or "ok",
        )
        for label, row in pairs
    ]
    return table(("case", "median", "p90", "p99", "a step", "pictures / s", "verdict"), rows)


def _throughput(row: Row) -> str:
    seconds, batch = statistic_of(row, "total"), row.case.get("batch", 1)
    if not seconds or not isinstance(batch, int):
        return MISSING
    return number(batch / seconds)


def coldstart_table(report: Report) -> str:
    """Every runner: process start to first picture, and what of it goes into importing and loading."""
    pairs = zip(row_labels(report.rows), report.rows, strict=True)
    rows = [
        (
            label,
            *(duration(statistic_of(row, name)) for name in ("cold_start", "import", "start")),
            amount(_peak(row)),
            verdict(row) or "ok",
        )
        for label, row in pairs
    ]
    return table(("runner", "first picture", "importing", "loading", "peak memory", "verdict"), rows)


def serve_table(report: Report) -> str:
    """Every load: pictures a second, how long a request takes, and how many were refused."""
    pairs = zip(row_labels(report.rows), report.rows, strict=True)
    rows = [
        (
            label,
            number(value_of(row, "pictures_per_second") or 0),
            *(duration(value_of(row, f"{name}_seconds")) for name in ("p50", "p95", "p99")),
            *(f"{value_of(row, name) or 0:.0f}" for name in ("requests", "refused", "lost")),
            verdict(row) or "ok",
        )
        for label, row in pairs
    ]
    header = ("load", "pictures / s", "p50", "p95", "p99", "requests", "refused", "lost", "verdict")
    return table(header, rows)
