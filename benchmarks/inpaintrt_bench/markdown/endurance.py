"""Tables of what a server endures: hostile requests, load for long, and large images."""

from __future__ import annotations

from inpaintrt_bench.markdown.formatting import amount, duration, number, table, value_of, verdict
from inpaintrt_bench.schema import Report, Row

__all__ = ["hostile_table", "memory_table", "soak_table"]


def hostile_table(report: Report) -> str:
    """Every kind of hostile request: how many were refused, and how many turned out to be sound."""
    rows = [
        (row.name, *_counts(row, ("requests", "refused", "accepted")), verdict(row) or "ok")
        for row in report.rows
        if "requests" in row.values
    ]
    others = [row for row in report.rows if "requests" not in row.values]
    found = "\n\n".join(_flood_line(row) if "probes" in row.values else _server_line(row) for row in others)
    return "\n\n".join([table(("requests", "sent", "refused", "accepted", "verdict"), rows), found])


def _server_line(row: Row) -> str:
    first, last = (amount(value_of(row, f"{name}_resident_bytes")) for name in ("first", "last"))
    line = f"The server's memory: {first} after the first batch, {last} after the last."
    growth = value_of(row, "memory_growth")
    if growth is not None:
        line += f" From the second quarter to the last it changed by {growth:+.1%}."
    return f"{line} {verdict(row)}".strip()


def _flood_line(row: Row) -> str:
    probes, failed = (value_of(row, name) or 0 for name in ("probes", "probes_failed"))
    connections = value_of(row, "connections") or 0
    answered = f"{probes - failed:.0f} of {probes:.0f} health probes were answered"
    line = f"With {connections:.0f} connections open, {answered}."
    return f"{line} {verdict(row)}".strip()


def soak_table(report: Report) -> str:
    """Every window: what was served, how long it took, and what was left in the server."""
    rows = [
        (
            str(row.case.get("window")),
            number(value_of(row, "pictures_per_second") or 0),
            *(duration(value_of(row, f"{name}_seconds")) for name in ("p50", "p95")),
            *_counts(row, ("requests", "hung_up", "lost", "slots_active")),
            amount(value_of(row, "resident_bytes")),
            verdict(row) or "ok",
        )
        for row in report.rows
    ]
    header = (
        *("window", "pictures / s", "p50", "p95", "requests", "hung up", "lost", "slots left", "memory"),
        "verdict",
    )
    return table(header, rows)


def memory_table(report: Report) -> str:
    """Every size and server: the process's memory before, at its peak, and some time afterwards."""
    rows = [
        (
            row.name,
            f"{row.case.get('width')} x {row.case.get('height')}",
            str(row.case.get("requests")),
            *(amount(value_of(row, f"{moment}_bytes")) for moment in ("idle", "peak", "after")),
            verdict(row) or "ok",
        )
        for row in report.rows
    ]
    return table(("server", "size", "requests", "idle", "peak", "afterwards", "verdict"), rows, texts=2)


def _counts(row: Row, names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"{value_of(row, name) or 0:.0f}" for name in names)
