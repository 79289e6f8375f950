"""Reports as files: written while a measurement runs, printed at its end, and read again."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import click
import msgspec

from inpaintrt.atomic import atomic_write
from inpaintrt.errors import InpaintError
from inpaintrt_bench.report.machine import describe_machine
from inpaintrt_bench.report.markdown import Table
from inpaintrt_bench.report.schema import FORMAT_VERSION, Kind, Report, Row, Scalar

__all__ = [
    "ReportFormatError",
    "command_words",
    "encode_report",
    "hand_out",
    "load_report",
    "make_report",
    "output_option",
    "record",
    "save_report",
]

_OUTPUT = ("-o", "--output")
_NAMED_PATH = re.compile(r"((?:--server=)?[^/=]+=)/(?:.*/)?([^/]+)")

output_option = click.option(
    "--output", "-o", type=click.Path(path_type=Path), help="JSON file to write besides printing."
)


class ReportFormatError(InpaintError):
    """A file is not a report that this version reads."""


class _Version(msgspec.Struct):
    format_version: int


def encode_report(report: Report) -> bytes:
    """The report as indented JSON."""
    return msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n"


def save_report(report: Report, path: Path) -> None:
    """Write a report: the file is there whole, or as it was before."""
    with atomic_write(path) as partial:
        partial.write_bytes(encode_report(report))


def load_report(path: Path) -> Report:
    """Read a report.

    Raises:
        ReportFormatError: The file is missing, of another version, or not a report.
    """
    try:
        content = path.read_bytes()
        version = msgspec.json.decode(content, type=_Version).format_version
        if version != FORMAT_VERSION:
            raise ReportFormatError(
                f"{path} has a format that this version of inpaintrt does not read",
                received=f"format_version {version}",
                expected=f"format_version {FORMAT_VERSION}",
                hint="measure again with `inpaintrt bench`",
            )
        return msgspec.json.decode(content, type=Report)
    except (OSError, msgspec.DecodeError) as error:
        raise ReportFormatError(
            f"{path} is not a benchmark's report",
            received=str(error),
            expected="a file written by `inpaintrt bench ... --output`",
        ) from error


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


def hand_out(report: Report, table: Table, output: Path | None) -> None:
    """Print a report as a table, and write it to a file if one is named."""
    click.echo(table(report))
    if output is not None:
        save_report(report, output)


def record(
    kind: Kind,
    snapshots: Iterable[Sequence[Row]],
    settings: Mapping[str, Scalar | list[Scalar]],
    table: Table,
    output: Path | None,
    *,
    notes: Sequence[str] = (),
) -> Report:
    """Write a report whenever there is more to say, and print it as a table at the end.

    Until then the file says that it is not complete.

    Args:
        kind: The subcommand.
        snapshots: All rows as they are at some moment, again and again.
        settings: What all rows have in common.
        table: Writes the report as Markdown.
        output: The file to write; None for none.
        notes: What a reader must know.
    """
    report = make_report(kind, (), settings, notes=notes)
    for rows in snapshots:
        report = make_report(kind, rows, settings, notes=notes)
        if output is not None:
            save_report(msgspec.structs.replace(report, complete=False), output)
    hand_out(report, table, output)
    return report
