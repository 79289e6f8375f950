"""`inpaintrt bench compare`: ours beside others, in turns, each image compared with PyTorch's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click
import numpy as np
from numpy.typing import NDArray

from inpaintrt_bench.report.image_comparison import LIMITS
from inpaintrt_bench.report.markdown import (
    MISSING,
    amount,
    duration,
    peak_memory,
    row_labels,
    statistic_of,
    table,
    verdict,
)
from inpaintrt_bench.report.plotting import STAGE_COLORS, add_legend, new_figure
from inpaintrt_bench.report.schema import STAGES, Report, Row
from inpaintrt_bench.runners.catalogue import BASELINE, RunnerSpec, choose_runners
from inpaintrt_bench.runners.launching import Launcher
from inpaintrt_bench.runners.measured import MeasuredRunner
from inpaintrt_bench.runners.session import (
    SessionSettings,
    case_options,
    open_session,
    parse_size,
    session_options,
)
from inpaintrt_bench.runners.sources import make_case
from inpaintrt_bench.runners.work import try_count_work
from inpaintrt_bench.workers.messages import Case

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "Comparison",
    "StageBar",
    "compare",
    "compare_runners",
    "compare_table",
    "draw_stages",
    "stage_bars",
]

Pixels = NDArray[np.uint8]

_ROUNDS = {"cpu": 5, "cuda": 20}
_ROOM_FOR_TOTALS = 1.12


@click.command()
@session_options
@case_options
@click.option("--runner", "runners", multiple=True, help="A runner's name; may be repeated. Default: all.")
@click.option(
    "--size", default="128x128", show_default=True, callback=parse_size, help="Width x height to run at."
)
@click.option("--steps", type=click.IntRange(min=1), default=20, show_default=True, help="Of the sampler.")
@click.option("--batch", type=click.IntRange(min=1), default=1, show_default=True, help="Images at once.")
@click.option("--sampler", help="A sampler's name. Default: the checkpoint's own.")
@click.option("--warm-up", type=click.IntRange(min=1), default=2, show_default=True, help="Uncounted runs.")
@click.option("--rounds", type=click.IntRange(min=1), help="Counted runs of each. Default: 5; 20 on a GPU.")
@click.option("--in-pairs", is_flag=True, help="Keep only the baseline and one other in memory at a time.")
def compare(
    runners: tuple[str, ...],
    size: tuple[int, int],
    steps: int,
    batch: int,
    sampler: str | None,
    warm_up: int,
    rounds: int | None,
    prompt: str | None,
    guidance: float,
    seed: int,
    *,
    in_pairs: bool,
    **session: Any,  # noqa: ANN401
) -> None:
    """Ours beside PyTorch and others: the same work in turns, every image compared with PyTorch's.

    The runners on a CPU are diffusers (the baseline), inpaintrt-onnxruntime, inpaintrt-openvino,
    diffusers-channels-last, diffusers-compile, diffusers-max-autotune, optimum, openvino-genai (in the
    precision that OpenVINO takes by itself), openvino-genai-f32 and openvino-genai-fixed (in float32,
    compiled for the size); on a GPU, inpaintrt-onnxruntime-cuda, inpaintrt-tensorrt and
    inpaintrt-tensorrt-rtx stand for ours.
    """
    settings = SessionSettings(**session)
    specs = choose_runners(runners, settings.device)
    limits = LIMITS["float16" if settings.device == "cuda" else "float32"]
    with open_session("compare", compare_table, settings) as opened:
        case = make_case(
            opened.scratch,
            width=size[0],
            height=size[1],
            steps=steps,
            prompt=prompt,
            guidance_scale=guidance,
            seed=seed,
            batch=batch,
            sampler=sampler,
        )
        comparison = Comparison(
            case=case,
            warm_up=warm_up,
            rounds=rounds or _ROUNDS[settings.device],
            in_pairs=in_pairs,
            limits=limits,
        )
        common = opened.describe(case)
        work = try_count_work(opened.launcher.bundle, case, opened.launcher.progress)
        rows = compare_runners(
            specs, opened.launcher, comparison, lambda some: opened.keep(some, common, work.notes)
        )
        opened.finish(work.add_to(rows, opened.peak), common, work.notes)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """How to compare.

    Attributes:
        case: The work of every run.
        warm_up: Runs of each that are not counted; the first of them ends the cold start.
        rounds: Counted runs of each. In a round each runs once: A B C, A B C, and so on.
        in_pairs: Keep only the baseline and one other in memory at a time and restart the baseline.
        limits: How near the images must be to the baseline's, from `image_comparison.LIMITS`.
    """

    case: Case
    warm_up: int
    rounds: int
    in_pairs: bool
    limits: Mapping[str, float]


def compare_runners(
    specs: Sequence[RunnerSpec],
    launcher: Launcher,
    settings: Comparison,
    report: Callable[[tuple[Row, ...]], None] = lambda _: None,
) -> tuple[Row, ...]:
    """Measure runners beside each other.

    Args:
        specs: The runners; the baseline comes first if it is among them.
        launcher: Starts them.
        settings: How to compare.
        report: Called with what there is after each round, so that nothing is lost if the next is cut off.

    Returns:
        A row for each runner: measured, wrong, or with the reason why it failed.
    """
    rows: tuple[Row, ...] = ()
    for group in _groups(specs, in_pairs=settings.in_pairs):
        known = {row.name for row in rows}
        finished = rows

        def report_all(
            new: Sequence[Row], known: set[str] = known, finished: tuple[Row, ...] = finished
        ) -> None:
            report((*finished, *(row for row in new if row.name not in known)))

        new = _measure(group, launcher, settings, report_all)
        rows = (*rows, *(row for row in new if row.name not in known))
    return rows


def _groups(specs: Sequence[RunnerSpec], *, in_pairs: bool) -> list[list[RunnerSpec]]:
    baseline = [spec for spec in specs if spec.name == BASELINE]
    others = [spec for spec in specs if spec.name != BASELINE]
    if not in_pairs or not others:
        return [[*baseline, *others]]
    return [[*baseline, other] for other in others]


def _measure(
    group: Sequence[RunnerSpec],
    launcher: Launcher,
    settings: Comparison,
    report: Callable[[Sequence[Row]], None],
) -> list[Row]:
    runners = [MeasuredRunner(spec, launcher, settings.limits) for spec in group]
    baseline = next((one for one in runners if one.spec.name == BASELINE), None)
    try:
        for runner in runners:
            runner.start()
            for _ in range(settings.warm_up):
                runner.warm_up(settings.case)
        for number in range(1, settings.rounds + 1):
            launcher.progress(
                f"round {number} of {settings.rounds}: {', '.join(spec.name for spec in group)}"
            )
            _one_round(runners, baseline, settings.case)
            report([runner.row(baseline) for runner in runners])
    except BaseException:  # an interrupt from the keyboard, most of all
        for runner in runners:
            runner.stop(at_once=True)
        raise
    for runner in runners:
        runner.stop()
    return [runner.row(baseline) for runner in runners]


def _one_round(runners: Sequence[MeasuredRunner], baseline: MeasuredRunner | None, case: Case) -> None:
    reference: Pixels | None = None
    for runner in runners:
        images = runner.measure(case)
        if runner is baseline:
            reference = images
        elif images is not None and reference is not None:
            runner.compare(images, reference, BASELINE)


def compare_table(report: Report) -> str:
    """Every runner: time of a request, alone and beside the baseline, memory, and how near its image is."""
    header = (
        "runner",
        "median",
        "p90",
        "time / baseline's",
        "peak memory",
        "largest difference",
        "PSNR",
        "verdict",
    )
    pairs = zip(row_labels(report.rows), report.rows, strict=True)
    return table(header, [(label, *_comparison(row), verdict(row) or "ok") for label, row in pairs])


def _comparison(row: Row) -> tuple[str, ...]:
    ratio, comparison = statistic_of(row, "ratio"), row.picture
    return (
        duration(statistic_of(row, "total")),
        duration(statistic_of(row, "total", "p90")),
        MISSING if ratio is None else f"{ratio:.2f}",
        amount(peak_memory(row)),
        MISSING if comparison is None else f"{comparison.max_difference:.0f}/255",
        _psnr(row),
    )


def _psnr(row: Row) -> str:
    if row.picture is None:
        return MISSING
    return "equal" if row.picture.psnr is None else f"{row.picture.psnr:.1f} dB"


@dataclass(frozen=True)
class StageBar:
    """One row as a bar.

    Attributes:
        label: The row's name.
        seconds: Median time of each stage that was measured, in the order of `STAGES`.
    """

    label: str
    seconds: Mapping[str, float]

    @property
    def total(self) -> float:
        """Length of the bar."""
        return sum(self.seconds.values())


def stage_bars(report: Report) -> list[StageBar]:
    """A bar for each row that has stages."""
    return [
        StageBar(
            label,
            {stage: row.stages[stage].statistics.median for stage in STAGES if stage in row.stages},
        )
        for label, row in zip(row_labels(report.rows), report.rows, strict=True)
        if row.stages
    ]


def draw_stages(report: Report) -> Figure:
    """Draw a stacked horizontal bar for each row, the first on top."""
    bars = stage_bars(report)
    figure, (axes,) = new_figure(1.6 + 0.42 * len(bars))
    ends = [0.0] * len(bars)
    for stage in STAGES:
        if not any(stage in bar.seconds for bar in bars):
            continue
        widths = [bar.seconds.get(stage, 0.0) for bar in bars]
        axes.barh(
            range(len(bars)),
            widths,
            left=ends,
            height=0.62,
            color=STAGE_COLORS[stage],
            label=stage.replace("_", " "),
        )
        ends = [end + width for end, width in zip(ends, widths, strict=True)]
    for index, bar in enumerate(bars):
        axes.annotate(
            f"{bar.total:.3g} s", (bar.total, index), (4, 0), textcoords="offset points", va="center"
        )
    axes.set_yticks(range(len(bars)), [bar.label for bar in bars])
    axes.invert_yaxis()
    axes.set_xlim(0, _ROOM_FOR_TOTALS * max((bar.total for bar in bars), default=1.0))
    axes.set_xlabel("time of a request in seconds (sum of the stages' medians)")
    add_legend(figure, axes, columns=4)
    return figure
