"""`inpaintrt run`: files in, pictures out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Unpack

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from inpaintrt.cli.options import bundle_option, engine_options
from inpaintrt.files import check_output, numbered, parameters_text, save_picture
from inpaintrt.output import InpaintOutput, StepEvent
from inpaintrt.pipeline import InpaintPipeline
from inpaintrt.request import Options

__all__ = ["run"]

_PATH = click.Path(path_type=Path)


@click.command()
@click.option("--image", "-i", type=_PATH, required=True, help="The picture.")
@click.option("--mask", "-m", type=_PATH, required=True, help="White where to paint, black where to keep.")
@click.option("--prompt", "-p", required=True, help="What to paint.")
@click.option("--output", "-o", type=_PATH, required=True, help="File to write: .png, .jpg or .webp.")
@bundle_option
@engine_options
@click.option("--negative-prompt", help="What not to paint.")
@click.option("--steps", "num_inference_steps", default=50, show_default=True, help="Steps of the sampler.")
@click.option("--guidance", "guidance_scale", default=7.5, show_default=True, help="Weight of the prompt.")
@click.option("--strength", default=1.0, show_default=True, help="What to forget under the mask, 0 to 1.")
@click.option(
    "--count", "-n", "num_images_per_prompt", default=1, show_default=True, help="Pictures to make."
)
@click.option("--eta", default=0.0, show_default=True, help="Noise of DDIM and TCD, 0 to 1.")
@click.option("--seed", type=int, help="Seed; default: a random one, which is reported.")
@click.option("--scheduler", help="Sampler, see `inpaintrt samplers`; default: the checkpoint's.")
@click.option(
    "--padding-mask-crop", type=int, help="Run only the masked region and so many pixels around it."
)
@click.option("--height", type=int, help="Height to run at, in pixels.")
@click.option("--width", type=int, help="Width to run at, in pixels.")
@click.option("--clip-skip", type=int, help="Layers of the text encoder to skip.")
@click.option("--mask-blur", default=0.0, show_default=True, help="Soften the mask's edge; sigma in pixels.")
@click.option("--mask-grow", default=0, show_default=True, help="Grow the mask; pixels, negative shrinks.")
@click.option("--mask-invert", is_flag=True, help="Paint what is black.")
@click.option(
    "--match-colours/--keep-colours",
    default=True,
    show_default=True,
    help="Match colours at the mask's edge.",
)
@click.option(
    "--fill", default="original", show_default=True, help="Masked content: original, grey, blur, noise."
)
@click.option(
    "--margins", nargs=4, type=int, default=(0, 0, 0, 0), help="Paint beyond left, top, right, bottom."
)
@click.option("--long-prompts", default="truncate", show_default=True, help="truncate or windows.")
@click.option("--negative-mode", default="replace", show_default=True, help="replace or symmetric.")
@click.option("--guidance-interval", nargs=2, type=float, default=(0.0, 1.0), help="Where guidance acts.")
@click.option("--compat", help="'diffusers' for its sizes and cropping.")
@click.option("--force", is_flag=True, help="Overwrite the output file.")
def run(
    image: Path,
    mask: Path,
    prompt: str,
    output: Path,
    bundle: str,
    backend: str,
    threads: int | None,
    device: int | None,
    low_vram: bool | None,
    force: bool,
    **options: Unpack[Options],
) -> None:
    """Paint what the prompt says where the mask is white."""
    paths = numbered(output, options["num_images_per_prompt"])
    for path in paths:
        check_output(path, force=force)
    with InpaintPipeline.from_bundle(
        bundle, backend=backend, threads=threads, device=device, low_vram=low_vram
    ) as pipe:
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


def _save(result: InpaintOutput, paths: list[Path], parameters: Mapping[str, object]) -> None:
    console = Console(stderr=True, highlight=False)
    for warning in result.warnings:
        console.print("[yellow]warning:[/]", warning, markup=True, soft_wrap=True)
    for path, image, seed in zip(paths, result.images, result.seeds, strict=True):
        save_picture(image, path, {"parameters": parameters_text(parameters, seed)})
        click.echo(path)
    steps = len(result.timings.steps)
    console.print(f"seed {result.seeds[0]}, {steps} steps, {result.timings.total:.2f} s")
