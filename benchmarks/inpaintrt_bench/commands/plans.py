"""`inpaintrt bench plans`."""

from __future__ import annotations

from pathlib import Path

import click

from inpaintrt_bench.commands.options import output_option

__all__ = ["plans"]


@click.command()
@click.argument("bundle")
@click.option("--target", default="sm89", show_default=True, help="The GPU to build for.")
@click.option("--max-batch", default=1, show_default=True, help="Requests that share a step.")
@output_option
def plans(bundle: str, target: str, max_batch: int, output: Path | None) -> None:
    """What it costs to build the TensorRT-RTX plans of BUNDLE, which computes in fp16."""
    from inpaintrt_bench.plans import measure_builds
    from inpaintrt_bench.report import write_report
    from inpaintrt_export.plans import BuildSettings

    settings = BuildSettings("tensorrt-rtx", targets=(target,), max_batch=max_batch)
    write_report({"plans": measure_builds(bundle, settings)}, output)
