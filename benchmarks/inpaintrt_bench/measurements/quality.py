"""`inpaintrt bench quality`: speed settings against the quality of a bundle's images."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import click
import numpy as np
from PIL import Image
from rich.console import Console
from rich.progress import Progress

from inpaintrt.backends import DEFAULT_BACKEND
from inpaintrt.bundle import QualitySettings
from inpaintrt.pipeline import InpaintPipeline
from inpaintrt.request import Options, make_request
from inpaintrt.store import find_bundle
from inpaintrt_bench.measurements.judges import (
    Judge,
    Judgments,
    Scene,
    default_judge,
    load_judge,
    plain_scenes,
)
from inpaintrt_bench.measurements.quality_choice import EXACT, choose, setting_case, write_choice
from inpaintrt_bench.measurements.quality_report import quality_table
from inpaintrt_bench.report.files import hand_out, make_report, output_option
from inpaintrt_bench.report.image_comparison import psnr_in_mask
from inpaintrt_bench.report.schema import Row, Scalar, make_series, pair_ratios

__all__ = ["all_settings", "measure_quality", "quality"]

_WHOLE_RUN = (0.0, 1.0)
_SIDE = 8


@click.command()
@click.argument("bundle", default="demo")
@click.option(
    "--sampler",
    "samplers",
    multiple=True,
    default=("ddim", "unipc", "dpmpp_2m", "euler_a"),
    show_default=True,
    help="A sampler's name; may be repeated.",
)
@click.option(
    "--steps",
    type=click.IntRange(1, 1000),
    multiple=True,
    default=(3, 4, 6, 8, 12),
    show_default=True,
    help="Steps of the sampler; may be repeated.",
)
@click.option(
    "--spacing",
    type=click.Choice(["leading", "linspace", "trailing"]),
    default="trailing",
    show_default=True,
    help="Where the steps lie.",
)
@click.option(
    "--guidance-until",
    "ends",
    type=click.FloatRange(0, 1),
    multiple=True,
    default=(1.0, 0.6),
    show_default=True,
    help="Part of the run from its beginning in which guidance acts; may be repeated.",
)
@click.option(
    "--exact-steps",
    type=click.IntRange(1, 1000),
    default=20,
    show_default=True,
    help="Steps of the images to compare with, of the checkpoint's own sampler.",
)
@click.option("--cases", type=click.IntRange(min=1), default=50, show_default=True, help="Scenes.")
@click.option("--judge", help="demo, none, or MODULE:FUNCTION. Default: demo for the demo checkpoint.")
@click.option("--backend", default=DEFAULT_BACKEND, show_default=True, help="What runs the engines.")
@click.option("--threads", type=click.IntRange(min=1), help="Threads on the CPU.")
@click.option("--write", is_flag=True, help="Write the settings that are chosen into the bundle's manifest.")
@output_option
def quality(
    bundle: str,
    samplers: tuple[str, ...],
    steps: tuple[int, ...],
    spacing: Any,  # noqa: ANN401  one of a literal's values, which click has checked
    ends: tuple[float, ...],
    exact_steps: int,
    cases: int,
    judge: str | None,
    backend: str,
    threads: int | None,
    write: bool,
    output: Path | None,
) -> None:
    """What speed settings do to the images of BUNDLE: every combination beside the exact settings, in turns.

    A judge tells which images show what their prompt asks for; the demo's needs a source checkout and the
    extra `export`. From what was measured the settings of `quality="balanced"` and `"fast"` are chosen.
    """
    settings = all_settings(samplers, steps, [(0.0, end) for end in ends], spacing)
    with InpaintPipeline.from_bundle(bundle, backend=backend, threads=threads) as pipe:
        named = judge or default_judge(pipe.manifest)
        judged = load_judge(named, cases)
        with Progress(console=Console(stderr=True)) as bar:
            task = bar.add_task(f"{len(settings)} settings, scene by scene", total=cases)
            rows = measure_quality(
                pipe, settings, judged, cases, exact_steps, lambda done: bar.update(task, completed=done)
            )
    notes = ("The table shows the settings that no other beats; the report has all of them.",)
    common: dict[str, Scalar | list[Scalar]] = {
        "bundle": pipe.manifest.name,
        "backend": backend,
        "cases": cases,
        "judge": named,
    }
    report = make_report("quality", rows, common, notes=notes)
    hand_out(report, quality_table, output)
    choice = choose(rows[0], list(zip(settings, rows[1:], strict=True)))
    click.echo(choice.text)
    if write:
        write_choice(choice, report, find_bundle(bundle))


def all_settings(
    samplers: Sequence[str],
    steps: Sequence[int],
    intervals: Sequence[tuple[float, float]],
    spacing: Any = "trailing",  # noqa: ANN401  see QualitySettings
) -> list[QualitySettings]:
    """Every combination."""
    return [
        QualitySettings(
            num_inference_steps=number_of_steps,
            scheduler=sampler,
            timestep_spacing=spacing,
            guidance_interval=interval,
        )
        for sampler, number_of_steps, interval in itertools.product(samplers, steps, intervals)
    ]


@dataclass
class _Tally:
    """What the images of one setting came to so far."""

    seconds: list[float] = field(default_factory=list)
    psnr: list[float] = field(default_factory=list)
    judgments: Judgments = field(default_factory=Judgments)


def measure_quality(
    pipe: InpaintPipeline,
    settings: Sequence[QualitySettings],
    judge: Judge | None,
    cases: int,
    exact_steps: int = 20,
    progress: Callable[[int], None] = lambda _: None,
) -> list[Row]:
    """Paint scenes with the exact settings and with every other, in turns, and let a judge look.

    The prompts were encoded before, so the times are those of a repeated prompt.

    Args:
        pipe: The bundle.
        settings: What to compare.
        judge: Has the scenes; None for the demo's scene at the checkpoint's size.
        cases: How many scenes.
        exact_steps: Steps of the exact settings.
        progress: Called with the number of scenes that are done.

    Returns:
        A row of the exact settings, then one for each setting. Its `values` are `psnr` (mean over the scenes,
        in the mask, to the exact image, in dB), `unet_evaluations` for one image, and those of `Judgments`
        where there is a judge. The series are `total` and `ratio`, to the exact time of the same scene.

    Raises:
        InputError: A setting is unknown or out of its range.
    """
    height, width = pipe.manifest.architecture.native_resolution
    scenes = plain_scenes(cases, (width, height)) if judge is None else judge.scenes
    runs: list[Options] = [{"num_inference_steps": exact_steps}]
    runs += [cast("Options", setting.options) for setting in settings]
    tallies = [_Tally() for _ in runs]
    for scene in scenes:  # every prompt is encoded before it is timed
        pipe(scene.prompt, scene.image, scene.mask, num_inference_steps=1, seed=0)
    for index, scene in enumerate(scenes):
        exact: Image.Image | None = None
        for run, tally in zip(runs, tallies, strict=True):
            painted = _paint(pipe, run, scene, index, tally)
            exact = exact or painted
            tally.psnr.append(_psnr(painted, exact, scene))
            if judge is not None:
                tally.judgments.add(judge, index, painted)
        progress(index + 1)
    return [_row(pipe, run, tally, tallies[0]) for run, tally in zip(runs, tallies, strict=True)]


def _paint(pipe: InpaintPipeline, run: Options, scene: Scene, seed: int, tally: _Tally) -> Image.Image:
    options: Options = {**run, "seed": seed}
    output = pipe(scene.prompt, scene.image, scene.mask, **options)
    (image,) = output.images
    tally.seconds.append(output.timings.total)
    assert isinstance(image, Image.Image)  # noqa: S101  the output type is "pil"
    return image


def _psnr(painted: Image.Image, exact: Image.Image, scene: Scene) -> float:
    mask = np.asarray(scene.mask.convert("L"))
    return psnr_in_mask(np.asarray(painted), np.asarray(exact), mask)


def _row(pipe: InpaintPipeline, run: Options, tally: _Tally, exact: _Tally) -> Row:
    values: dict[str, Scalar] = {"unet_evaluations": _evaluations(pipe, run)}
    if tally is not exact:
        values["psnr"] = float(np.mean(tally.psnr))
    return Row(
        name=run.get("scheduler") or EXACT,
        case={"precision": pipe.manifest.precision, **setting_case(run)},
        values=values | tally.judgments.values,
        series={
            "total": make_series(tally.seconds, warm_up=1),
            "ratio": make_series(pair_ratios(tally.seconds, exact.seconds), "ratio", warm_up=1),
        },
    )


def _evaluations(pipe: InpaintPipeline, run: Options) -> int:
    """How often the UNet is asked for one image: the steps, once or twice each."""
    blank = Image.new("RGB", (_SIDE, _SIDE))
    request = make_request("", blank, blank, run, pipe.stages.family)
    rows = pipe.stages.compile(request).rows
    return int(np.count_nonzero(request.guidance.weights(rows, has_negative=False)))
