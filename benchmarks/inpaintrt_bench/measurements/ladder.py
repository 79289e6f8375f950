"""`inpaintrt bench ladder`: from diffusers in PyTorch to the fast mode, rung by rung, each image judged."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from inpaintrt.bundle import Manifest, load_manifest
from inpaintrt.errors import ParameterError
from inpaintrt.images import prepare
from inpaintrt.options import make_options
from inpaintrt.quality import Quality, qualities_of
from inpaintrt.store import find_bundle
from inpaintrt_bench.measurements.judges import (
    Judge,
    Judgments,
    Scene,
    default_judge,
    load_judge,
    plain_scenes,
)
from inpaintrt_bench.measurements.ladder_report import ladder_table
from inpaintrt_bench.measurements.quality_choice import setting_case
from inpaintrt_bench.report.image_comparison import LIMITS, psnr_in_mask
from inpaintrt_bench.report.schema import Row, Scalar
from inpaintrt_bench.runners.catalogue import BASELINE, Device, RunnerSpec, choose_runners
from inpaintrt_bench.runners.launching import Launcher
from inpaintrt_bench.runners.measured import MeasuredRunner
from inpaintrt_bench.runners.session import SessionSettings, open_session, parse_size, session_options
from inpaintrt_bench.runners.sources import draw_noise
from inpaintrt_bench.workers.messages import Case

__all__ = ["LadderScene", "LadderSettings", "Rung", "choose_rungs", "ladder", "make_scenes", "measure_ladder"]

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Rung:
    """One rung.

    Attributes:
        runner: What paints, under the rung's name.
        quality: Of ours: the word for steps and sampler. Images of exact rungs must be the first rung's.
    """

    runner: RunnerSpec
    quality: Quality = "exact"

    @property
    def name(self) -> str:
        """Its name in reports."""
        return self.runner.name

    @property
    def is_ours(self) -> bool:
        """Whether the runtime of this project paints."""
        return self.runner.needs == "bundle"


_RUNGS: Mapping[Device, Sequence[tuple[str, str, Quality, Mapping[str, str]]]] = {
    "cpu": (
        ("exact", "inpaintrt-onnxruntime", "exact", {}),
        ("exact, OpenVINO", "inpaintrt-openvino", "exact", {}),
        ("balanced", "inpaintrt-onnxruntime", "balanced", {}),
        ("fast", "inpaintrt-onnxruntime", "fast", {}),
        ("fast, OpenVINO", "inpaintrt-openvino", "fast", {}),
        ("fast, OpenVINO, bf16", "inpaintrt-openvino", "fast", {"precision": "bf16"}),
    ),
    "cuda": (
        ("exact", "inpaintrt-onnxruntime-cuda", "exact", {}),
        ("exact, TensorRT", "inpaintrt-tensorrt", "exact", {}),
        ("balanced, TensorRT", "inpaintrt-tensorrt", "balanced", {}),
        ("fast, TensorRT", "inpaintrt-tensorrt", "fast", {}),
    ),
}
"""Name, runner, quality and further options of the backend, from the second rung on."""


@click.command()
@session_options
@click.option("--rung", "names", multiple=True, help="A rung's name; may be repeated. Default: all.")
@click.option("--steps", type=click.IntRange(1, 1000), default=20, show_default=True, help="Exact ones.")
@click.option("--cases", type=click.IntRange(min=1), default=50, show_default=True, help="Scenes.")
@click.option("--judge", help="demo, none, or MODULE:FUNCTION. Default: demo for the demo checkpoint.")
@click.option(
    "--size", default=None, callback=parse_size, help="Width x height without a judge. Default: native."
)
@click.option("--warm-up", type=click.IntRange(min=0), default=2, show_default=True, help="Uncounted runs.")
@click.option("--in-pairs", is_flag=True, help="Keep only the first rung and one other in memory at a time.")
def ladder(
    names: tuple[str, ...],
    steps: int,
    cases: int,
    judge: str | None,
    size: tuple[int, int] | None,
    warm_up: int,
    *,
    in_pairs: bool,
    **session: Any,  # noqa: ANN401
) -> None:
    """From PyTorch to the fast mode: time, memory, and what the images show, on the same scenes in turns.

    Each rung paints every scene in a process of its own, and no run uses what an earlier one computed.
    Images of exact rungs are compared with those of the first rung, diffusers in PyTorch.
    """
    device = session["device"]
    rungs = choose_rungs(names, device)
    with open_session("ladder", ladder_table, SessionSettings(**session)) as opened:
        manifest = load_manifest(find_bundle(opened.launcher.bundle or "demo"))
        named = judge or default_judge(manifest)
        judged = load_judge(named, cases)
        height, width = manifest.architecture.native_resolution
        scenes = plain_scenes(cases, size or (width, height)) if judged is None else judged.scenes
        settings = LadderSettings(
            manifest=manifest,
            judge=judged,
            scenes=make_scenes(scenes, opened.scratch, steps),
            warm_up=warm_up,
            limits=LIMITS["float16" if device == "cuda" else "float32"],
        )
        common: dict[str, Scalar | list[Scalar]] = {"steps": steps, "cases": cases, "judge": named}
        rows = measure_ladder(
            _groups(rungs, in_pairs=in_pairs),
            opened.launcher,
            settings,
            lambda some: opened.keep(some, common),
        )
        opened.finish(rows, common)


def choose_rungs(names: Sequence[str], device: Device) -> list[Rung]:
    """The rungs of some names, behind diffusers, with which they are compared; no names mean all.

    Raises:
        ParameterError: There is no such rung.
    """
    first = Rung(runner=choose_runners((BASELINE,), device)[0])
    rungs = [first, *(_rung(device, *words) for words in _RUNGS[device])]
    known = [rung.name for rung in rungs]
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise ParameterError(
            f"there is no such rung on {device}",
            received=", ".join(unknown),
            expected=", ".join(known),
            parameter="rung",
        )
    return [rung for rung in rungs if rung is first or not names or rung.name in names]


def _rung(device: Device, name: str, runner: str, quality: Quality, options: Mapping[str, str]) -> Rung:
    (spec,) = choose_runners((runner,), device)
    return Rung(runner=replace(spec, name=name, options={**spec.options, **options}), quality=quality)


def _groups(rungs: Sequence[Rung], *, in_pairs: bool) -> list[list[Rung]]:
    first, *others = rungs
    return [[first, other] for other in others] if in_pairs and others else [list(rungs)]


@dataclass(frozen=True, kw_only=True)
class LadderScene:
    """A scene, and the files of it that every library can read.

    Attributes:
        scene: The scene.
        case: The work of an exact rung.
    """

    scene: Scene
    case: Case


def make_scenes(scenes: Sequence[Scene], folder: Path, steps: int) -> list[LadderScene]:
    """Write scenes as files; scene i is painted with the seed i.

    Args:
        scenes: The scenes.
        folder: For their images and masks.
        steps: Of exact rungs.
    """
    made = []
    for index, scene in enumerate(scenes):
        image, mask = folder / f"image-{index}.png", folder / f"mask-{index}.png"
        noise = folder / f"noise-{index}.npz"
        scene.image.save(image)
        scene.mask.save(mask)
        draw_noise(noise, index, 1, scene.image.height, scene.image.width)
        case = Case(
            image=str(image),
            mask_image=str(mask),
            prompt=scene.prompt,
            height=scene.image.height,
            width=scene.image.width,
            num_inference_steps=steps,
            seed=index,
            noise=str(noise),
        )
        made.append(LadderScene(scene=scene, case=case))
    return made


@dataclass(frozen=True, kw_only=True)
class LadderSettings:
    """What all rungs have in common.

    Attributes:
        manifest: The bundle's.
        judge: Tells what images show; None where nothing does.
        scenes: What is painted: each scene is a round, in which every rung paints it once.
        warm_up: Runs of each rung that are not counted.
        limits: How near the images of exact rungs must be to the first rung's.
    """

    manifest: Manifest
    judge: Judge | None
    scenes: Sequence[LadderScene]
    warm_up: int
    limits: Mapping[str, float]


class _MeasuredRung:
    """A rung while it is measured."""

    def __init__(self, rung: Rung, launcher: Launcher, settings: LadderSettings) -> None:
        self.rung, self._settings = rung, settings
        self.runner = MeasuredRunner(rung.runner, launcher, settings.limits)
        self._judgments = Judgments()
        self._psnr: list[float] = []

    def start(self) -> None:
        self.runner.start()
        for _ in range(self._settings.warm_up):
            self.runner.warm_up(self._case(self._settings.scenes[0]))

    def measure(self, index: int, reference: Pixels | None) -> Pixels | None:
        """Paint a scene, compare it with the first rung's image, and have it judged."""
        made = self._settings.scenes[index]
        images = self.runner.measure(self._case(made))
        if images is None:
            return None
        if reference is not None:
            self._compare(images, reference, made.scene)
        if self._settings.judge is not None and self.runner.failure is None:
            pasted = _pasted(made.scene, images[0], self._settings.manifest, ours=self.rung.is_ours)
            self._judgments.add(self._settings.judge, index, pasted)
        return images

    def _compare(self, images: Pixels, reference: Pixels, scene: Scene) -> None:
        if self.rung.quality == "exact":
            self.runner.compare(images, reference, BASELINE)
        if images.shape == reference.shape:
            mask = np.asarray(scene.mask.convert("L"))
            self._psnr.append(psnr_in_mask(images[0], reference[0], mask))

    def _case(self, made: LadderScene) -> Case:
        return replace(made.case, quality=self.rung.quality)

    def row(self, first: MeasuredRunner) -> Row:
        """What was measured so far."""
        psnr: dict[str, Scalar] = {"psnr": float(np.mean(self._psnr))} if self._psnr else {}
        row = self.runner.row(first)
        return msgspec.structs.replace(row, case=self._row_case(), values=self._judgments.values | psnr)

    def _row_case(self) -> dict[str, Scalar]:
        quality = self.rung.quality
        if quality == "exact":
            return {"quality": quality, "steps": self._settings.scenes[0].case.num_inference_steps}
        chosen = qualities_of(self._settings.manifest)[quality]
        return {"quality": quality, **setting_case(chosen.options)}


def _pasted(scene: Scene, painted: Pixels, manifest: Manifest, *, ours: bool) -> Image.Image:
    """The image as it is handed out: ours pasted back with matched colors, others' pasted back as it is."""
    image = Image.fromarray(painted)
    if not ours:
        return Image.composite(image, scene.image, scene.mask)
    architecture = manifest.architecture
    prepared = prepare(
        scene.image,
        scene.mask,
        make_options(height=image.height, width=image.width),
        native=architecture.native_resolution,
        factor=architecture.vae_scale_factor,
    )
    return prepared.paste.apply(image)


def measure_ladder(
    groups: Sequence[Sequence[Rung]],
    launcher: Launcher,
    settings: LadderSettings,
    report: Callable[[tuple[Row, ...]], None] = lambda _: None,
) -> tuple[Row, ...]:
    """Measure rungs beside the first of them.

    Args:
        groups: Rungs that are in memory at the same time, in each group the first rung first.
        launcher: Starts them.
        settings: What they have in common.
        report: Called with what there is after each round, so that nothing is lost if the next is cut off.

    Returns:
        A row for each rung: measured, wrong, or with the reason why it failed. Its `values` are `psnr` (mean
        over the scenes, in the mask, to the first rung's image, in dB) and those of `Judgments`.
    """
    rows: tuple[Row, ...] = ()
    for group in groups:
        finished = rows
        for some in _rounds(group, launcher, settings):
            known = {row.name for row in finished}
            rows = (*finished, *(row for row in some if row.name not in known))
            report(rows)
    return rows


def _rounds(group: Sequence[Rung], launcher: Launcher, settings: LadderSettings) -> Iterator[list[Row]]:
    """The rows of a group after each round."""
    rungs = [_MeasuredRung(rung, launcher, settings) for rung in group]
    first = rungs[0].runner
    ended = False
    try:
        for rung in rungs:
            rung.start()
        for index in range(len(settings.scenes)):
            launcher.progress(f"scene {index + 1} of {len(settings.scenes)}")
            reference = rungs[0].measure(index, None)
            for rung in rungs[1:]:
                rung.measure(index, reference)
            yield [rung.row(first) for rung in rungs]
        ended = True
    finally:
        for rung in rungs:
            rung.runner.stop(at_once=not ended)
