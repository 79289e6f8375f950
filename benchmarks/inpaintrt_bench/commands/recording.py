"""Results that are written while they are measured."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from msgspec.structs import replace

from inpaintrt_bench.reporting import hand_out, make_report
from inpaintrt_bench.schema import Kind, Report, Row, Scalar, save_report

__all__ = ["record"]


def record(
    kind: Kind,
    snapshots: Iterable[Sequence[Row]],
    settings: Mapping[str, Scalar | list[Scalar]],
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
        output: The file to write; None for none.
        notes: What a reader must know.
    """
    report = make_report(kind, (), settings, notes=notes)
    for rows in snapshots:
        report = make_report(kind, rows, settings, notes=notes)
        if output is not None:
            save_report(replace(report, complete=False), output)
    hand_out(report, output)
    return report
