"""`inpaintrt bench build`."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import get_args

import click

from inpaintrt.bundle import Precision
from inpaintrt_bench.commands.options import output_option

__all__ = ["build"]


@click.command()
@click.argument("source")
@click.option(
    "--precision",
    type=click.Choice(get_args(Precision)),
    default="fp16",
    show_default=True,
    help="To export in.",
)
@click.option("--plans/--no-plans", default=True, show_default=True, help="Build TensorRT-RTX plans as well.")
@click.option("--target", default="sm89", show_default=True, help="The GPU to build plans for.")
@click.option("--max-batch", default=1, show_default=True, help="Requests that share a step of the plans.")
@output_option
def build(
    source: str, precision: Precision, plans: bool, target: str, max_batch: int, output: Path | None
) -> None:
    """What it costs to export SOURCE and to build its plans: time, memory and size of each part.

    SOURCE is what `inpaintrt export` takes, for example synthetic:sd15-inpaint. The bundle is thrown away.
    """
    from inpaintrt_bench.build import measure_export, measure_plans
    from inpaintrt_bench.isolation import run_alone
    from inpaintrt_bench.reporting import hand_out, make_report
    from inpaintrt_export.plans import BuildSettings

    with tempfile.TemporaryDirectory() as folder:
        bundle = Path(folder) / "bundle"
        click.echo(f"exporting {source}", err=True)
        rows = run_alone(measure_export, source, bundle, precision)
        if plans:
            click.echo(f"building plans for {target}", err=True)
            wanted = BuildSettings("tensorrt-rtx", (target,), max_batch=max_batch, precision=precision)
            rows += run_alone(measure_plans, str(bundle), wanted)
    settings = {"source": source, "precision": precision}
    hand_out(make_report("build", rows, settings), output)
