"""The subcommands of `inpaintrt bench`."""

from __future__ import annotations

from pathlib import Path

import click

from inpaintrt.cli.options import bundle_option

__all__ = ["register"]

_output_option = click.option(
    "--output", "-o", type=click.Path(path_type=Path), help="JSON file to write besides printing."
)


def register(app: click.Group) -> None:
    """Add `bench` to the command line."""
    app.add_command(bench)


@click.group()
def bench() -> None:
    """Measure what the runtime costs."""


@bench.command()
@bundle_option
@click.option("--repeats", type=click.IntRange(min=1), default=9, show_default=True, help="Counted runs.")
@_output_option
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


@bench.command()
@_output_option
def footprint(output: Path | None) -> None:
    """How much an installation with the extra `cpu` takes, in a fresh environment."""
    from inpaintrt_bench.footprint import installed_size
    from inpaintrt_bench.report import write_report

    write_report({"installed": installed_size()}, output)


@bench.command()
@click.argument("bundle")
@click.option("--target", default="sm89", show_default=True, help="The GPU to build for.")
@click.option("--max-batch", default=1, show_default=True, help="Requests that share a step.")
@_output_option
def plans(bundle: str, target: str, max_batch: int, output: Path | None) -> None:
    """What it costs to build the TensorRT-RTX plans of BUNDLE, which computes in fp16."""
    from inpaintrt_bench.plans import measure_builds
    from inpaintrt_bench.report import write_report
    from inpaintrt_export.plans import BuildSettings

    settings = BuildSettings("tensorrt-rtx", targets=(target,), max_batch=max_batch)
    write_report({"plans": measure_builds(bundle, settings)}, output)
