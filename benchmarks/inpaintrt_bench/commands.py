"""The subcommands of `inpaintrt bench`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add `bench` to the command line."""
    bench = typer.Typer(help="Measure; see also the results in benchmarks/results.", no_args_is_help=True)
    bench.command()(overhead)
    bench.command()(footprint)
    app.add_typer(bench, name="bench")


def overhead(
    bundle: Annotated[str, typer.Option("--bundle", "-b", help="The bundle to run.")] = "demo",
    repeats: Annotated[int, typer.Option(min=1, help="Counted runs.")] = 9,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="JSON file to write.")] = None,
) -> None:
    """What the runtime itself costs: around the engines, to compile tables, and to import."""
    from inpaintrt_bench import overhead as measurements
    from inpaintrt_bench.report import write_report

    results = {
        "around_engines": measurements.around_engines(bundle, repeats),
        "compile_table": measurements.compile_tables(repeats),
        "import": measurements.import_time(repeats),
    }
    write_report(results, output)


def footprint(
    output: Annotated[Path | None, typer.Option("--output", "-o", help="JSON file to write.")] = None,
) -> None:
    """How much an installation with the extra `cpu` takes, in a fresh environment."""
    from inpaintrt_bench.footprint import installed_size
    from inpaintrt_bench.report import write_report

    write_report({"installed": installed_size()}, output)
