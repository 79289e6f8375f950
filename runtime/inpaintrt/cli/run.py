"""`inpaintrt run`: files in, pictures out."""

# Typer declares options as parameters; they reach the pipeline through the context.
# ruff: noqa: ARG001

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, cast

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from inpaintrt.cli.options import Backend, Bundle, Threads
from inpaintrt.files import check_output, numbered, save_picture
from inpaintrt.output import InpaintOutput, StepEvent
from inpaintrt.pipeline import InpaintPipeline
from inpaintrt.request import Options

__all__ = ["run"]


def run(
    context: typer.Context,
    image: Annotated[Path, typer.Option("--image", "-i", help="The picture.")],
    mask: Annotated[Path, typer.Option("--mask", "-m", help="White where to paint, black where to keep.")],
    prompt: Annotated[str, typer.Option("--prompt", "-p", help="What to paint.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write: .png, .jpg or .webp.")],
    bundle: Bundle = "demo",
    backend: Backend = "onnxruntime",
    threads: Threads = None,
    negative_prompt: Annotated[str | None, typer.Option(help="What not to paint.")] = None,
    num_inference_steps: Annotated[int, typer.Option("--steps", help="Steps of the sampler.")] = 50,
    guidance_scale: Annotated[
        float, typer.Option("--guidance", help="How strongly to follow the prompt.")
    ] = 7.5,
    strength: Annotated[float, typer.Option(help="How much to forget under the mask, 0 to 1.")] = 1.0,
    num_images_per_prompt: Annotated[int, typer.Option("--count", "-n", help="Pictures to make.")] = 1,
    eta: Annotated[float, typer.Option(help="Noise of DDIM and TCD, 0 to 1.")] = 0.0,
    seed: Annotated[int | None, typer.Option(help="Seed; default: a random one, which is reported.")] = None,
    scheduler: Annotated[str | None, typer.Option(help="Sampler, see `inpaintrt samplers`.")] = None,
    padding_mask_crop: Annotated[int | None, typer.Option(help="Run the masked region plus this.")] = None,
    height: Annotated[int | None, typer.Option(help="Height to run at, in pixels.")] = None,
    width: Annotated[int | None, typer.Option(help="Width to run at, in pixels.")] = None,
    clip_skip: Annotated[int | None, typer.Option(help="Layers of the text encoder to skip.")] = None,
    mask_blur: Annotated[float, typer.Option(help="Soften the mask's edge; sigma in pixels.")] = 0.0,
    mask_grow: Annotated[int, typer.Option(help="Grow the mask; pixels, negative shrinks.")] = 0,
    mask_invert: Annotated[bool, typer.Option("--mask-invert", help="Paint what is black.")] = False,
    fill: Annotated[str, typer.Option(help="Under the mask: original, grey, blur or noise.")] = "original",
    margins: Annotated[
        tuple[int, int, int, int], typer.Option(help="Paint beyond the left, top, right, bottom edge.")
    ] = (0, 0, 0, 0),
    long_prompts: Annotated[str, typer.Option(help="truncate or windows.")] = "truncate",
    negative_mode: Annotated[str, typer.Option(help="replace or symmetric.")] = "replace",
    guidance_interval: Annotated[
        tuple[float, float], typer.Option(help="Part of the run in which guidance acts.")
    ] = (0.0, 1.0),
    compat: Annotated[str | None, typer.Option(help="'diffusers' for its sizes and cropping.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the output file.")] = False,
) -> None:
    """Paint what the prompt says where the mask is white."""
    names = Options.__optional_keys__
    options = cast("Options", {name: value for name, value in context.params.items() if name in names})
    paths = numbered(output, num_images_per_prompt)
    for path in paths:
        check_output(path, force=force)
    with InpaintPipeline.from_bundle(bundle, backend=backend, threads=threads) as pipe:
        result = _follow(pipe.stream(prompt, image, mask, **options))
    _save(result, paths, {"bundle": bundle, "prompt": prompt, **options})


def _follow(events: Iterator[StepEvent]) -> InpaintOutput:
    columns = (TextColumn("denoising"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("denoising", total=None)
        for event in events:
            progress.update(task, completed=event.index, total=event.total)
            if event.output is not None:
                return event.output
    raise AssertionError("the stream ended without results: this is a bug")


def _save(result: InpaintOutput, paths: list[Path], parameters: Mapping[str, Any]) -> None:
    console = Console(stderr=True, highlight=False)
    for warning in result.warnings:
        console.print(f"[yellow]warning:[/] {warning}")
    for path, image, seed in zip(paths, result.images, result.seeds, strict=True):
        record = {**parameters, "seed": seed, "software": f"inpaintrt {version('inpaintrt')}"}
        save_picture(image, path, {"parameters": json.dumps(record)})
        typer.echo(path)
    steps = len(result.timings.steps)
    console.print(f"seed {result.seeds[0]}, {steps} steps, {result.timings.total:.2f} s")
