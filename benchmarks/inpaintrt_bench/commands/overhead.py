"""`inpaintrt bench overhead`."""

from __future__ import annotations

from pathlib import Path

import click

from inpaintrt.cli.options import bundle_option
from inpaintrt_bench.commands.options import output_option

__all__ = ["overhead"]


@click.command()
@bundle_option
@click.option("--repeats", type=click.IntRange(min=1), default=9, show_default=True, help="Counted runs.")
@output_option
def overhead(bundle: str, repeats: int, output: Path | None) -> None:
    """What the runtime itself costs: around the engines, to compile tables, and to import."""
    from inpaintrt_bench import overhead as measurements
    from inpaintrt_bench.report import write_report

    results = {
        "around_engines": measurements.around_engines(bundle, repeats),
        "compile_table": measurements.compile_tables(repeats),
        "import": measurements.import_time(repeats),
    }
    write_report(results, output)
