"""`inpaintrt demo`: paint the drawn scene and write a strip."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from inpaintrt.cli.options import engine_options
from inpaintrt.demo import DemoResult, load_scene, paint_scene, strip
from inpaintrt.files import check_output, save_image
from inpaintrt.pipeline import InpaintPipeline

__all__ = ["demo"]

_STAGES = ("prepare", "prompts", "image_encode", "denoise", "image_decode", "paste", "total")


@click.command()
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path),
    default=Path("inpaintrt-demo.png"),
    show_default=True,
    help="File to write.",
)
@engine_options
def demo(output: Path, backend: str, threads: int | None, device: int | None, low_vram: bool | None) -> None:
    """Paint a drawn scene with three prompts, and write image, mask and results side by side."""
    check_output(output, force=True)
    scene = load_scene()
    with InpaintPipeline.from_bundle(
        "demo", backend=backend, threads=threads, device=device, low_vram=low_vram
    ) as pipe:
        results = list(paint_scene(pipe, scene))
    save_image(strip(scene, results), output)
    _report(results)
    click.echo(output.resolve())


def _report(results: list[DemoResult]) -> None:
    table = Table("seconds", *(result.prompt for result in results))
    for stage in _STAGES:
        table.add_row(stage, *(f"{getattr(result.timings, stage):.3f}" for result in results))
    Console(stderr=True).print(table)
