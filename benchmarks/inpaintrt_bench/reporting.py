"""From rows to a report: printed as a table, and written as JSON."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import click

from inpaintrt_bench.machine import describe_machine
from inpaintrt_bench.markdown import TABLES
from inpaintrt_bench.schema import FORMAT_VERSION, Kind, Report, Row, Scalar, save_report

__all__ = ["command_words", "hand_out", "make_report"]

_OUTPUT = ("-o", "--output")
_NAMED_PATH = re.compile(r"((?:--server=)?[^/=]+=)/(?:.*/)?([^/]+)")


def command_words(arguments: Sequence[str]) -> tuple[str, ...]:
    """The words of a command line without the name of the output file, and without folders of servers.

    Args:
        arguments: What followed the program's name.
    """
    words, rest = [], iter(arguments)
    for word in rest:
        if word in _OUTPUT:
            next(rest, None)
        elif not word.startswith("--output="):
            words.append(_NAMED_PATH.sub(r"\1\2", word))
    return tuple(words)


def make_report(
    kind: Kind,
    rows: Sequence[Row],
    settings: Mapping[str, Scalar | list[Scalar]],
    *,
    notes: Sequence[str] = (),
) -> Report:
    """A report of today, of this machine, and of the command that is running."""
    return Report(
        format_version=FORMAT_VERSION,
        kind=kind,
        date=datetime.now(UTC).date().isoformat(),
        command=command_words(sys.argv[1:]),
        machine=describe_machine(),
        settings=dict(settings),
        rows=tuple(rows),
        notes=tuple(notes),
    )


def hand_out(report: Report, output: Path | None) -> None:
    """Print a report as a table, and write it to a file if one is named."""
    table = TABLES.get(report.kind)
    if table is not None:
        click.echo(table(report))
    if output is not None:
        save_report(report, output)
