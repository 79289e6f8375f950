"""Reports as Markdown: figures, tables, the names of rows, and what any report can be shown as."""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Sequence

from inpaintrt_bench.report.schema import STAGES, Machine, Report, Row, Scalar

__all__ = [
    "MISSING",
    "Table",
    "amount",
    "duration",
    "number",
    "origin",
    "peak_memory",
    "percent",
    "row_labels",
    "stages_table",
    "statistic_of",
    "table",
    "value_of",
    "varying_keys",
    "verdict",
    "work_table",
]

Table = Callable[[Report], str]
"""Writes a report as Markdown."""

MISSING = "-"
_UNITS = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"))
_VERDICTS = {"failed": "failed", "wrong": "wrong image"}
_BILLION = 1e9


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


def peak_memory(row: Row) -> int | None:
    """The largest memory of a row in bytes, the GPU's where it is known; None where none was measured."""
    return None if row.memory is None else row.memory.peak_device or row.memory.peak_resident


def verdict(row: Row) -> str:
    """Nothing for a row that is in order, else what is wrong with it."""
    return "" if row.status == "ok" else f"{_VERDICTS[row.status]}: {row.reason or 'no reason given'}"


def varying_keys(rows: Sequence[Row]) -> list[str]:
    """The keys of `case` whose value is not the same in all rows, in the order in which they appear."""
    keys = dict.fromkeys(key for row in rows for key in row.case)
    return [key for key in keys if len({row.case.get(key) for row in rows}) > 1]


def row_labels(rows: Sequence[Row]) -> list[str]:
    """A name for each row: its own, what sets its case apart, and "wrong image" where that is so."""
    keys = varying_keys(rows)
    return [_label(row, keys) for row in rows]


def _label(row: Row, keys: Sequence[str]) -> str:
    details = [_detail(key, row.case[key]) for key in keys if row.case.get(key) is not None]
    if row.status == "wrong":
        details.append("wrong image")
    return ", ".join([row.name, *details])


def _detail(key: str, value: Scalar) -> str:
    words = key.replace("_", " ")
    if isinstance(value, str):
        return value
    return f"{words} {value:.4g}" if isinstance(value, float) else f"{words} {value}"


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


def origin(report: Report) -> str:
    """One paragraph: what measured, when, and on what."""
    machine = report.machine
    sentences = [
        f"Measured on {report.date} with `inpaintrt {shlex.join(report.command)}` on {_where(machine)}."
    ]
    if machine.packages:
        versions = ", ".join(f"{name} {version}" for name, version in machine.packages.items())
        sentences.append(f"Python {machine.python}, {versions}.")
    if not report.complete:
        sentences.append("The measurement was cut short.")
    return " ".join([*sentences, *report.notes])


def _where(machine: Machine) -> str:
    cores = "" if machine.cores is None else f"{machine.cores} cores of "
    gpus = [f"{gpu.name} (driver {gpu.driver})" for gpu in machine.gpus]
    return " and ".join([f"{cores}{machine.processor}", *gpus])
