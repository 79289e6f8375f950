"""Tables and figures as Markdown has them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from inpaintrt_bench.schema import Row, Scalar

__all__ = [
    "MISSING",
    "amount",
    "duration",
    "number",
    "percent",
    "statistic_of",
    "table",
    "value_of",
    "verdict",
]

MISSING = "-"
_UNITS = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"))
_VERDICTS = {"failed": "failed", "wrong": "wrong picture"}


def table(header: Sequence[str], rows: Sequence[Sequence[str]], *, texts: int = 1) -> str:
    """A Markdown table: the first columns hold texts, the others hold figures, which line up at the right.

    Args:
        header: Titles of the columns.
        rows: As many cells each as the header.
        texts: How many columns hold texts.
    """
    rule = ["---"] * texts + ["---:"] * (len(header) - texts)
    lines = [header, rule, *([_escape(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _escape(cell: str) -> str:
    return " ".join(cell.replace("|", "\\|").split())


def number(value: float, digits: int = 3) -> str:
    """A number to so many digits at least, without an exponent."""
    magnitude = math.floor(math.log10(abs(value))) if value else digits
    return f"{value:,.{max(digits - 1 - magnitude, 0)}f}"


def duration(seconds: float | None) -> str:
    """Seconds, or milliseconds below one second."""
    if seconds is None:
        return MISSING
    return f"{number(seconds * 1000)} ms" if seconds < 1 else f"{number(seconds)} s"


def amount(size: float | None) -> str:
    """Bytes in a unit that suits them; a kB is 1000 bytes."""
    if size is None:
        return MISSING
    for unit, name in _UNITS:
        if size >= unit:
            return f"{number(size / unit)} {name}"
    return f"{size:.0f} B"


def percent(share: float | None, decimals: int = 0) -> str:
    """A share from 0 to 1 as a percentage."""
    return MISSING if share is None else f"{share * 100:.{decimals}f} %"


def value_of(row: Row, name: str) -> float | None:
    """A figure of a row that is taken once; None where it was not taken."""
    value: Scalar = row.values.get(name)
    return float(value) if isinstance(value, int | float) else None


def statistic_of(row: Row, name: str, statistic: str = "median") -> float | None:
    """A statistic of one of a row's series or stages; None where it was not taken."""
    series = row.series.get(name) or row.stages.get(name)
    return None if series is None else float(getattr(series.statistics, statistic))


def verdict(row: Row) -> str:
    """Nothing for a row that is in order, else what is wrong with it."""
    return "" if row.status == "ok" else f"{_VERDICTS[row.status]}: {row.reason or 'no reason given'}"
