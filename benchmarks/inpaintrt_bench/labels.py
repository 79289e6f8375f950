"""Short names for the rows of a report."""

from __future__ import annotations

from collections.abc import Sequence

from inpaintrt_bench.schema import Row, Scalar

__all__ = ["row_labels", "varying_keys"]


def varying_keys(rows: Sequence[Row]) -> list[str]:
    """The keys of `case` whose value is not the same in all rows, in the order in which they appear."""
    keys = dict.fromkeys(key for row in rows for key in row.case)
    return [key for key in keys if len({row.case.get(key) for row in rows}) > 1]


def row_labels(rows: Sequence[Row]) -> list[str]:
    """A name for each row: its own, what sets its case apart, and "wrong picture" where that is so."""
    keys = varying_keys(rows)
    return [_label(row, keys) for row in rows]


def _label(row: Row, keys: Sequence[str]) -> str:
    details = [_detail(key, row.case[key]) for key in keys if row.case.get(key) is not None]
    if row.status == "wrong":
        details.append("wrong picture")
    return ", ".join([row.name, *details])


def _detail(key: str, value: Scalar) -> str:
    words = key.replace("_", " ")
    if isinstance(value, str):
        return value
    return f"{words} {value:.4g}" if isinstance(value, float) else f"{words} {value}"
