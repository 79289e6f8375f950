"""Speed settings against the quality of the demo's pictures."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from inpaintrt.pipeline import InpaintPipeline
from inpaintrt.request import Options, make_request
from inpaintrt_bench.schema import Row
from inpaintrt_bench.statistics import make_series

if TYPE_CHECKING:
    from inpaintrt_export.demo.cases import Case
    from inpaintrt_export.demo.judge import Judge

__all__ = ["Setting", "all_settings", "measure_quality", "standard_error"]

_GUIDANCE = 7.5
_WHOLE_RUN = (0.0, 1.0)
_SIDE = 8


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
    """What the pictures of one setting came to so far."""

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
    """Paint unseen scenes with every setting, the settings taking turns, and let the demo's judge look.

    The prompts were encoded before, so the times are those of a repeated prompt.

    Args:
        settings: What to compare.
        cases: How many scenes; their seeds are fixed.
        progress: Called with the number of scenes that are done.

    Returns:
        A row for each setting. Its `values` are `share_found` (named object in the named colour inside the
        mask, from 0 to 1), `standard_error` of that share, `seam` (step across the mask's edge, relative to
        the originals'), and `unet_evaluations` for one picture.

    Raises:
        ModuleNotFoundError: The extra `export` is missing, which the judge belongs to.
        InputError: A setting is unknown or out of its range.
        BundleError: There is no such bundle, or it is damaged.
    """
    from inpaintrt_export.demo.cases import evaluation_cases
    from inpaintrt_export.demo.judge import load_judge

    scenes, judge = evaluation_cases(cases), load_judge()
    with ExitStack() as stack:
        pipes = {
            bundle: stack.enter_context(InpaintPipeline.from_bundle(bundle))
            for bundle in {setting.bundle for setting in settings}
        }
        tallies = [_Tally() for _ in settings]
        for pipe in pipes.values():
            _warm_up(pipe, scenes)
        for number, scene in enumerate(scenes):
            for setting, tally in zip(settings, tallies, strict=True):
                _paint(pipes[setting.bundle], setting, scene, number, judge, tally)
            progress(number + 1)
        original_edge = _original_edge(scenes)
        return [
            _row(pipes[setting.bundle], setting, tally, original_edge)
            for setting, tally in zip(settings, tallies, strict=True)
        ]


def _warm_up(pipe: InpaintPipeline, scenes: Sequence[Case]) -> None:
    """Encode every prompt, so that each setting finds it encoded."""
    for scene in scenes:
        pipe(scene.prompt, scene.picture, scene.mask, num_inference_steps=1, seed=0)


def _paint(
    pipe: InpaintPipeline, setting: Setting, scene: Case, seed: int, judge: Judge, tally: _Tally
) -> None:
    from inpaintrt_export.demo.metrics import edge_gradient, found_share

    options: Options = {**setting.options, "seed": seed}
    output = pipe(scene.prompt, scene.picture, scene.mask, **options)
    (picture,) = output.images
    tally.seconds.append(output.timings.total)
    tally.found.append(found_share(judge, [picture], [scene.mask], [scene.thing]))
    tally.edges.append(edge_gradient(picture, scene.mask))


def _original_edge(scenes: Sequence[Case]) -> float:
    from inpaintrt_export.demo.metrics import mean_edge_gradient

    return mean_edge_gradient([scene.picture for scene in scenes], [scene.mask for scene in scenes])


def _row(pipe: InpaintPipeline, setting: Setting, tally: _Tally, original_edge: float) -> Row:
    share = float(np.mean(tally.found))
    return Row(
        name=setting.sampler,
        case={
            "bundle": setting.bundle,
            "precision": pipe.manifest.components["denoiser"].precision,
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
    """How often the UNet is asked for one picture: the steps, once or twice each."""
    blank = Image.new("RGB", (_SIDE, _SIDE))
    request = make_request("", blank, blank, setting.options)
    rows = pipe.stages.compile(request).rows
    return int(np.count_nonzero(request.guidance.weights(rows, has_negative=False)))


def standard_error(share: float, count: int) -> float:
    """The standard deviation of a share of so many independent cases, as a binomial distribution has it."""
    return math.sqrt(share * (1 - share) / count)
