"""`inpaintrt bench mask`: what a large image costs, against the area of its mask."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np
from PIL import Image, ImageDraw

from inpaintrt.cli.options import bundle_option
from inpaintrt.errors import ParameterError
from inpaintrt.output import Timings
from inpaintrt.pipeline import InpaintPipeline
from inpaintrt.request import make_request
from inpaintrt_bench.processes import run_alone
from inpaintrt_bench.report.files import hand_out, make_report, output_option
from inpaintrt_bench.report.markdown import (
    amount,
    duration,
    percent,
    statistic_of,
    table,
    value_of,
)
from inpaintrt_bench.report.plotting import PALETTE, STAGE_COLORS, add_legend, new_figure
from inpaintrt_bench.report.schema import STAGES, Memory, Report, Row, make_series
from inpaintrt_export.memory import peak_bytes, resident_bytes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "MaskCosts",
    "draw_image",
    "draw_mask",
    "draw_masks",
    "mask",
    "mask_costs",
    "mask_table",
    "measure_mask",
]

_PERCENT = 100
# The schema's name of each field of `Timings`; tokenising is in the time of the text encoder.
_STAGES = {
    "prepare": "prepare",
    "text_encode": "prompts",
    "image_encode": "image_encode",
    "denoise": "denoise",
    "image_decode": "image_decode",
    "paste": "paste",
}
_COARSE = (6, 8)
_LARGEST_SHARE = math.pi / 4
_PROMPT = "a red balloon"
_MEGABYTE = 1e6


@click.command()
@bundle_option
@click.option("--width", type=click.IntRange(min=64), default=4000, show_default=True, help="Of the image.")
@click.option("--height", type=click.IntRange(min=64), default=3000, show_default=True, help="Of the image.")
@click.option(
    "--share",
    "shares",
    type=click.FloatRange(0, 78, min_open=True),
    multiple=True,
    default=(1, 5, 20, 60),
    show_default=True,
    help="Percentage of the image that the mask covers; may be repeated.",
)
@click.option("--steps", type=click.IntRange(min=1), default=20, show_default=True, help="Of the sampler.")
@click.option("--repeats", type=click.IntRange(min=1), default=7, show_default=True, help="Counted runs.")
@output_option
def mask(
    bundle: str,
    width: int,
    height: int,
    shares: tuple[float, ...],
    steps: int,
    repeats: int,
    output: Path | None,
) -> None:
    """What a large image costs against the area of its mask: time of each stage, and memory."""
    rows = []
    for share in shares:
        click.echo(f"painting {share:g} % of {width} x {height}", err=True)
        rows.append(
            run_alone(measure_mask, bundle, (width, height), share / _PERCENT, steps=steps, repeats=repeats)
        )
    report = make_report("mask", rows, {"bundle": bundle, "width": width, "height": height, "steps": steps})
    hand_out(report, mask_table, output)


def draw_image(size: tuple[int, int], seed: int = 0) -> Image.Image:
    """Draw a smooth colorful image, mode "RGB".

    Args:
        size: Width and height in pixels.
        seed: Of the colors.
    """
    colors = np.random.default_rng(seed).integers(0, 256, (*_COARSE, 3), dtype=np.uint8)
    return Image.fromarray(colors).resize(size, Image.Resampling.BICUBIC)


def draw_mask(size: tuple[int, int], share: float) -> Image.Image:
    """Draw an ellipse of the image's proportions in its middle, mode "L", white in black.

    Args:
        size: Width and height in pixels.
        share: Of the image that is white, above 0 and at most pi / 4, an ellipse that touches the edges.

    Raises:
        ParameterError: The share is out of its range.
    """
    if not 0 < share <= _LARGEST_SHARE:
        raise ParameterError(
            "no ellipse has this share of an image",
            received=share,
            expected=f"a number above 0, at most {_LARGEST_SHARE:.3f}",
        )
    mask = Image.new("L", size, 0)
    scale = math.sqrt(share / _LARGEST_SHARE)
    (left, right), (top, bottom) = (
        ((side - side * scale) / 2, (side + side * scale) / 2 - 1) for side in size
    )
    ImageDraw.Draw(mask).ellipse((left, top, right, bottom), fill=255)
    return mask


def measure_mask(bundle: str, size: tuple[int, int], share: float, *, steps: int, repeats: int) -> Row:
    """Paint the same large image several times, after one warm-up.

    The memory is that of this process: call it in a process of its own.

    Args:
        bundle: A name in the engine store, or a path.
        size: Width and height of the image.
        share: Of the image that the mask covers, above 0 and at most pi / 4.
        steps: Of the sampler.
        repeats: Counted runs.

    Returns:
        A row whose `values` are `box_share`, the part of the image that runs (the mask and its
        surroundings), `run_width` and `run_height`, what the networks see of it, and `bytes_before`, the
        resident memory before the first request, image and bundle included.

    Raises:
        ParameterError: The share is out of its range.
        BundleError: There is no such bundle, or it is damaged.
    """
    image, mask = draw_image(size), draw_mask(size, share)
    with InpaintPipeline.from_bundle(bundle) as pipe:
        before = resident_bytes()
        box, run = _region(pipe, image, mask)
        runs = [_timings(pipe, image, mask, steps) for _ in range(1 + repeats)][1:]
    return Row(
        name=f"{share * 100:g} %",
        case={"share": share},
        values={
            "box_share": box[0] * box[1] / (size[0] * size[1]),
            "run_width": run[0],
            "run_height": run[1],
            "bytes_before": before,
        },
        series={"total": make_series([timings.total for timings in runs], warm_up=1)},
        stages={
            stage: make_series([getattr(timings, field) for timings in runs], warm_up=1)
            for stage, field in _STAGES.items()
        },
        memory=Memory(peak_resident=peak_bytes()),
    )


def _region(
    pipe: InpaintPipeline, image: Image.Image, mask: Image.Image
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Width and height of the part that runs, and of the run."""
    (prepared,) = pipe.stages.prepare(make_request(_PROMPT, image, mask, {}, pipe.stages.family))
    height, width = prepared.image.shape[2:]
    return image.size if prepared.box is None else prepared.box.size, (width, height)


def _timings(pipe: InpaintPipeline, image: Image.Image, mask: Image.Image, steps: int) -> Timings:
    return pipe(_PROMPT, image, mask, num_inference_steps=steps, seed=0).timings


def mask_table(report: Report) -> str:
    """Every share of the mask: what of the image runs, the median of each stage, and memory."""
    stages = [stage for stage in STAGES if any(stage in row.stages for row in report.rows)]
    rows = [
        (
            row.name,
            percent(value_of(row, "box_share")),
            *(duration(statistic_of(row, stage)) for stage in stages),
            duration(statistic_of(row, "total")),
            amount(None if row.memory is None else row.memory.peak_resident),
        )
        for row in report.rows
    ]
    titles = [stage.replace("_", " ") for stage in stages]
    return table(("mask", "part that runs", *titles, "total", "peak memory"), rows, texts=0)


@dataclass(frozen=True)
class MaskCosts:
    """What masks cost, by rising share.

    Attributes:
        shares: Of the image, in percent.
        milliseconds: Median time of each stage, for each share.
        megabytes: Largest memory beyond what was resident before the first request, for each share.
    """

    shares: tuple[float, ...]
    milliseconds: Mapping[str, tuple[float, ...]]
    megabytes: tuple[float, ...]


def mask_costs(report: Report) -> MaskCosts:
    """The costs of the rows that are in order."""
    rows = sorted(
        (row for row in report.rows if row.status == "ok"), key=lambda row: float(str(row.case["share"]))
    )
    stages = [stage for stage in STAGES if any(stage in row.stages for row in rows)]
    peaks = [0 if row.memory is None else row.memory.peak_resident or 0 for row in rows]
    before = [value_of(row, "bytes_before") or 0 for row in rows]
    return MaskCosts(
        shares=tuple(100 * float(str(row.case["share"])) for row in rows),
        milliseconds={
            stage: tuple(1000 * (statistic_of(row, stage) or 0) for row in rows) for stage in stages
        },
        megabytes=tuple(
            max(peak - resident, 0) / _MEGABYTE for peak, resident in zip(peaks, before, strict=True)
        ),
    )


def draw_masks(report: Report) -> Figure:
    """Draw time by stages, and memory, over the mask's share."""
    costs = mask_costs(report)
    figure, (times, memory) = new_figure(3.4, panels=2)
    if costs.milliseconds:
        times.stackplot(
            costs.shares,
            *costs.milliseconds.values(),
            labels=[stage.replace("_", " ") for stage in costs.milliseconds],
            colors=[STAGE_COLORS[stage] for stage in costs.milliseconds],
        )
    times.set_ylabel("time of a request in milliseconds")
    memory.plot(costs.shares, costs.megabytes, "o-", color=PALETTE[1])
    memory.set_ylabel("memory of a request in megabytes")
    for axes in (times, memory):
        axes.set_xlabel("mask's share of the image in percent")
        axes.set_xlim(left=0)
        axes.set_ylim(bottom=0)
    add_legend(figure, times, columns=3)
    return figure
