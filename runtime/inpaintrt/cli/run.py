"""`inpaintrt run`: files in, images out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import cast

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from inpaintrt.cli.options import bundle_option, engine_options, lora_option
from inpaintrt.cli.request_options import request_options
from inpaintrt.declaration import current_names
from inpaintrt.files import check_output, numbered, parameters_text, save_image
from inpaintrt.lora import parse_lora
from inpaintrt.options import RENAMED, Options, make_options
from inpaintrt.output import InpaintOutput, StepEvent
from inpaintrt.pipeline import InpaintPipeline
from inpaintrt.request import make_request

__all__ = ["run"]

_PATH = click.Path(path_type=Path)


@click.command()
@click.option("--image", "-i", type=_PATH, help="The image; without one, text becomes an image.")
@click.option("--mask", "-m", type=_PATH, help="White where to paint; without one, the whole image changes.")
@click.option("--prompt", "-p", required=True, help="What to paint.")
@click.option("--output", "-o", type=_PATH, required=True, help="File to write: .png, .jpg or .webp.")
@bundle_option
@engine_options
@lora_option
@request_options
@click.option("--force", is_flag=True, help="Overwrite the output file.")
def run(
    image: Path | None,
    mask: Path | None,
    prompt: str,
    output: Path,
    bundle: str,
    backend: str,
    threads: int | None,
    device: int | None,
    low_vram: bool | None,
    loras: tuple[str, ...],
    force: bool,
    **parameters: object,
) -> None:
    """Paint what the prompt says: where the mask is white, over the whole image, or without any image."""
    console = Console(stderr=True, highlight=False)
    given, notes = current_names(
        {name: value for name, value in parameters.items() if value is not None}, RENAMED
    )
    for note in notes:
        console.print("[yellow]note:[/]", note, markup=True, soft_wrap=True)
    options = cast("Options", given)
    paths = numbered(output, make_options(**options)["num_images_per_prompt"])
    for path in paths:
        check_output(path, force=force)
    with InpaintPipeline.from_bundle(
        bundle,
        backend=backend,
        loras=[parse_lora(text) for text in loras],
        threads=threads,
        device=device,
        low_vram=low_vram,
    ) as pipe:
        request = make_request(prompt, image, mask, options, pipe.stages.family, pipe.stages.qualities)
        result = _follow(pipe.stream(prompt, image, mask, **options), console)
    used = {name: value for name, value in request.options.items() if name in parameters}
    used["guidance_scale"] = request.guidance.scale
    applied = {"loras": list(loras)} if loras else {}
    _save(result, paths, {"bundle": bundle, "prompt": prompt, **applied, **used}, console)


def _follow(events: Iterator[StepEvent], console: Console) -> InpaintOutput:
    columns = (TextColumn("denoising"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("denoising", total=None)
        for event in events:
            progress.update(task, completed=event.index, total=event.total)
            if event.output is not None:
                return event.output
    raise AssertionError("the stream ended without results: this is a bug")


def _save(
    result: InpaintOutput, paths: list[Path], parameters: Mapping[str, object], console: Console
) -> None:
    for warning in result.warnings:
        console.print("[yellow]warning:[/]", warning, markup=True, soft_wrap=True)
    for path, image, seed in zip(paths, result.images, result.seeds, strict=True):
        save_image(image, path, {"parameters": parameters_text(parameters, seed)})
        click.echo(path)
    steps = len(result.timings.steps)
    console.print(f"seed {result.seeds[0]}, {steps} steps, {result.timings.total:.2f} s")
