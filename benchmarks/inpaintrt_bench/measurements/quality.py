"""`inpaintrt bench quality`: speed settings against the quality of the demo's images."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np
from PIL import Image
from rich.console import Console
from rich.progress import Progress

from inpaintrt.errors import InpaintError
from inpaintrt.pipeline import InpaintPipeline
from inpaintrt.request import Options, make_request
from inpaintrt_bench.report.files import hand_out, make_report, output_option
from inpaintrt_bench.report.markdown import (
    MISSING,
    duration,
    number,
    percent,
    statistic_of,
    table,
    value_of,
)
from inpaintrt_bench.report.pareto import pareto_front
from inpaintrt_bench.report.plotting import MARKERS, PALETTE, add_legend, new_figure
from inpaintrt_bench.report.schema import Report, Row, make_series

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from inpaintrt_demo.cases import Case
    from inpaintrt_demo.classifier import Classifier

__all__ = [
    "QualityPoint",
    "Setting",
    "all_settings",
    "draw_quality",
    "front_rows",
    "measure_quality",
    "quality",
    "quality_points",
    "quality_table",
    "standard_error",
]

_GUIDANCE = 7.5
_WHOLE_RUN = (0.0, 1.0)
_SIDE = 8


@click.command()
@click.option(
    "--bundle",
    "bundles",
    multiple=True,
    default=("demo",),
    show_default=True,
    help="A bundle of the demo checkpoint; repeat it to compare precisions.",
)
@click.option(
    "--sampler",
    "samplers",
    multiple=True,
    default=("ddim", "euler_a", "dpmpp_2m_karras", "unipc"),
    show_default=True,
    help="A sampler's name; may be repeated.",
)
@click.option(
    "--steps",
    type=click.IntRange(min=1),
    multiple=True,
    default=(3, 5, 8, 12, 20, 30),
    show_default=True,
    help="Steps of the sampler; may be repeated.",
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
@click.option("--cases", type=click.IntRange(min=1), default=50, show_default=True, help="Unseen scenes.")
@output_option
def quality(
    bundles: tuple[str, ...],
    samplers: tuple[str, ...],
    steps: tuple[int, ...],
    ends: tuple[float, ...],
    cases: int,
    output: Path | None,
) -> None:
    """What speed settings do to the demo's images: all combinations on the same unseen scenes.

    A classifier decides what is found. It needs a source checkout and the extra `export`.
    """
    settings = all_settings(bundles, samplers, steps, [(0.0, end) for end in ends])
    with Progress(console=Console(stderr=True)) as bar:
        task = bar.add_task(f"{len(settings)} settings, scene by scene", total=cases)
        rows = measure_quality(settings, cases, lambda done: bar.update(task, completed=done))
    notes = ("The table shows the settings that no other beats; the report has all of them.",)
    hand_out(make_report("quality", rows, {"cases": cases}, notes=notes), quality_table, output)


@dataclass(frozen=True)
class Setting:
    """A way to paint.

    Attributes:
        bundle: A name in the engine store, or a path; it decides the precision.
        sampler: The sampler's name.
        steps: Of the sampler.
        interval: First and last part of the run, from 0 to 1, in which guidance acts.
    """

    bundle: str
    sampler: str
    steps: int
    interval: tuple[float, float] = _WHOLE_RUN

    @property
    def options(self) -> Options:
        """What a pipeline is called with."""
        return {
            "scheduler": self.sampler,
            "num_inference_steps": self.steps,
            "guidance_scale": _GUIDANCE,
            "guidance_interval": self.interval,
        }


@dataclass
class _Tally:
    """What the images of one setting came to so far."""

    seconds: list[float] = field(default_factory=list)
    found: list[float] = field(default_factory=list)
    edges: list[float] = field(default_factory=list)


def all_settings(
    bundles: Sequence[str],
    samplers: Sequence[str],
    steps: Sequence[int],
    intervals: Sequence[tuple[float, float]],
) -> list[Setting]:
    """Every combination."""
    return [Setting(*choice) for choice in itertools.product(bundles, samplers, steps, intervals)]


def measure_quality(
    settings: Sequence[Setting], cases: int, progress: Callable[[int], None] = lambda _: None
) -> list[Row]:
    """Paint unseen scenes with every setting, the settings taking turns, and let the demo's classifier look.

    The prompts were encoded before, so the times are those of a repeated prompt.

    Args:
        settings: What to compare.
        cases: How many scenes; their seeds are fixed.
        progress: Called with the number of scenes that are done.

    Returns:
        A row for each setting. Its `values` are `share_found` (named object in the named color inside the
        mask, from 0 to 1), `standard_error` of that share, `seam` (step across the mask's edge, relative to
        the originals'), and `unet_evaluations` for one image.

    Raises:
        ModuleNotFoundError: The extra `export` is missing, which the classifier needs.
        InpaintError: The demo's scenes and classifier are missing, which only a source checkout has.
        InputError: A setting is unknown or out of its range.
        BundleError: There is no such bundle, or it is damaged.
    """
    scenes, classifier = _load_demo(cases)
    with ExitStack() as stack:
        pipes = {
            bundle: stack.enter_context(InpaintPipeline.from_bundle(bundle))
            for bundle in {setting.bundle for setting in settings}
        }
        tallies = [_Tally() for _ in settings]
        for pipe in pipes.values():
            _warm_up(pipe, scenes)
        for index, scene in enumerate(scenes):
            for setting, tally in zip(settings, tallies, strict=True):
                _paint(pipes[setting.bundle], setting, scene, index, classifier, tally)
            progress(index + 1)
        original_edge = _original_edge(scenes)
        return [
            _row(pipes[setting.bundle], setting, tally, original_edge)
            for setting, tally in zip(settings, tallies, strict=True)
        ]


def _load_demo(cases: int) -> tuple[list[Case], Classifier]:
    try:
        from inpaintrt_demo.cases import evaluation_cases
        from inpaintrt_demo.classifier import load_classifier
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "inpaintrt_demo":
            raise
        raise InpaintError(
            "the demo's scenes and the classifier of its results are not installed",
            expected="a source checkout of inpaintrt, which has them in the folder demo",
            hint="install the checkout with `pip install -e '.[cpu,export,bench]'`",
        ) from error
    return evaluation_cases(cases), load_classifier()


def _warm_up(pipe: InpaintPipeline, scenes: Sequence[Case]) -> None:
    """Encode every prompt, so that each setting finds it encoded."""
    for scene in scenes:
        pipe(scene.prompt, scene.image, scene.mask, num_inference_steps=1, seed=0)


def _paint(
    pipe: InpaintPipeline, setting: Setting, scene: Case, seed: int, classifier: Classifier, tally: _Tally
) -> None:
    from inpaintrt_demo.evaluation import edge_gradient, found_share

    options: Options = {**setting.options, "seed": seed}
    output = pipe(scene.prompt, scene.image, scene.mask, **options)
    (image,) = output.images
    tally.seconds.append(output.timings.total)
    tally.found.append(found_share(classifier, [image], [scene.mask], [scene.thing]))
    tally.edges.append(edge_gradient(image, scene.mask))


def _original_edge(scenes: Sequence[Case]) -> float:
    from inpaintrt_demo.evaluation import mean_edge_gradient

    return mean_edge_gradient([scene.image for scene in scenes], [scene.mask for scene in scenes])


def _row(pipe: InpaintPipeline, setting: Setting, tally: _Tally, original_edge: float) -> Row:
    share = float(np.mean(tally.found))
    return Row(
        name=setting.sampler,
        case={
            "bundle": setting.bundle,
            "precision": pipe.manifest.precision,
            "steps": setting.steps,
            "guidance_start": setting.interval[0],
            "guidance_stop": setting.interval[1],
        },
        values={
            "share_found": share,
            "standard_error": standard_error(share, len(tally.found)),
            "seam": float(np.mean(tally.edges)) / original_edge,
            "unet_evaluations": _evaluations(pipe, setting),
        },
        series={"total": make_series(tally.seconds, warm_up=1)},
    )


def _evaluations(pipe: InpaintPipeline, setting: Setting) -> int:
    """How often the UNet is asked for one image: the steps, once or twice each."""
    blank = Image.new("RGB", (_SIDE, _SIDE))
    request = make_request("", blank, blank, setting.options, pipe.stages.family)
    rows = pipe.stages.compile(request).rows
    return int(np.count_nonzero(request.guidance.weights(rows, has_negative=False)))


def standard_error(share: float, count: int) -> float:
    """The standard deviation of a share of so many independent cases, as a binomial distribution has it."""
    return math.sqrt(share * (1 - share) / count)


def quality_table(report: Report) -> str:
    """The settings that no other beats: what they cost, and how good their images are."""
    rows = [
        (
            row.name,
            str(row.case.get("precision", MISSING)),
            str(row.case.get("steps", MISSING)),
            f"{row.case.get('guidance_start', 0):g} to {row.case.get('guidance_stop', 1):g}",
            number(value_of(row, "unet_evaluations") or 0, 1),
            duration(statistic_of(row, "total")),
            f"{percent(value_of(row, 'share_found'))} ± {percent(value_of(row, 'standard_error'))}",
            number(value_of(row, "seam") or 0),
        )
        for row in front_rows(report.rows)
    ]
    header = ("sampler", "precision", "steps", "guidance in", "UNet evaluations", "median", "found", "seam")
    return table(header, rows, texts=2)


def front_rows(rows: tuple[Row, ...]) -> list[Row]:
    """The rows on the Pareto front of UNet evaluations and the share that is found, by rising cost."""
    costs = [value_of(row, "unet_evaluations") or 0.0 for row in rows]
    gains = [value_of(row, "share_found") or 0.0 for row in rows]
    return [rows[index] for index in pareto_front(costs, gains)]


@dataclass(frozen=True)
class QualityPoint:
    """One setting.

    Attributes:
        group: Sampler, and the precision where there are several: what color and marker stand for.
        label: What else sets it apart: steps, and the guidance interval if it is not the whole run.
        evaluations: Of the UNet, for one image.
        seconds: Median time of one image.
        found: Percentage of images that hold what was asked for.
        error: Standard error of `found`, in percent.
    """

    group: str
    label: str
    evaluations: float
    seconds: float
    found: float
    error: float


def quality_points(report: Report) -> list[QualityPoint]:
    """A point for each row."""
    several = len({row.case.get("precision") for row in report.rows}) > 1
    return [_point(row, name_precision=several) for row in report.rows]


def _point(row: Row, *, name_precision: bool) -> QualityPoint:
    interval = row.case.get("guidance_start", 0), row.case.get("guidance_stop", 1)
    guidance = "" if interval == _WHOLE_RUN else f", {interval[0]:g} to {interval[1]:g}"
    return QualityPoint(
        group=f"{row.name} {row.case.get('precision')}" if name_precision else row.name,
        label=f"{row.case.get('steps')} steps{guidance}",
        evaluations=value_of(row, "unet_evaluations") or 0.0,
        seconds=statistic_of(row, "total") or 0.0,
        found=100 * (value_of(row, "share_found") or 0.0),
        error=100 * (value_of(row, "standard_error") or 0.0),
    )


def draw_quality(report: Report) -> Figure:
    """Draw what is found over UNet evaluations and over time, with the Pareto front of each."""
    points = quality_points(report)
    figure, (work, time) = new_figure(4.4, panels=2)
    _draw_panel(work, points, [point.evaluations for point in points])
    _draw_panel(time, points, [point.seconds for point in points])
    work.set_xlabel("UNet evaluations for an image")
    time.set_xlabel("seconds for an image (median)")
    work.set_ylabel("images that hold what was asked for, in percent")
    add_legend(figure, work, columns=4)
    return figure


def _draw_panel(axes: Axes, points: Sequence[QualityPoint], costs: Sequence[float]) -> None:
    groups = list(dict.fromkeys(point.group for point in points))
    for place, group in enumerate(groups):
        members = [index for index, point in enumerate(points) if point.group == group]
        axes.plot(
            [costs[index] for index in members],
            [points[index].found for index in members],
            MARKERS[place % len(MARKERS)],
            color=PALETTE[place % len(PALETTE)],
            markersize=5,
            label=group,
        )
    front = pareto_front(costs, [point.found for point in points])
    axes.errorbar(
        [costs[index] for index in front],
        [points[index].found for index in front],
        yerr=[points[index].error for index in front],
        color="#444444",
        linewidth=1,
        capsize=2,
        zorder=1,
        label="not beaten (± standard error)",
    )
    for index in front:
        axes.annotate(
            points[index].label,
            (costs[index], points[index].found),
            (5, -10),
            textcoords="offset points",
            fontsize=7,
        )
    axes.set_xlim(left=0)
    axes.set_ylim(0, 105)
