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
    from inpaintrt_bench.overhead import around_engines, compile_tables, import_time
    from inpaintrt_bench.reporting import hand_out, make_report

    rows = [around_engines(bundle, repeats), compile_tables(repeats), import_time(repeats)]
    hand_out(make_report("overhead", rows, {"bundle": bundle}), output)
