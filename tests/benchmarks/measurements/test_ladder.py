"""The ladder: every rung paints the same scenes in turns, and its images are compared and judged."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from benchmarks.odd import BUNDLE, demo_launcher, odd, odd_path
from inpaintrt import InpaintPipeline
from inpaintrt.bundle import load_manifest
from inpaintrt.cli import app
from inpaintrt.errors import ParameterError
from inpaintrt.quality import qualities_of
from inpaintrt_bench.measurements.judges import Judge, Scene, plain_scenes
from inpaintrt_bench.measurements.ladder import (
    LadderSettings,
    Rung,
    choose_rungs,
    make_scenes,
    measure_ladder,
)
from inpaintrt_bench.report.files import load_report
from inpaintrt_bench.report.image_comparison import LIMITS
from inpaintrt_bench.report.schema import Row
from inpaintrt_bench.runners.catalogue import BASELINE, RunnerSpec
from inpaintrt_bench.workers.messages import Source
from inpaintrt_bench.workers.ours import OurRunner, make_runner

__all__ = ["odd_path"]

SIDE = 64


class Onlooker:
    """A judge that finds the images whose seed is even, and keeps what it sees."""

    name = "onlooker"

    def __init__(self, scenes: Sequence[Scene]) -> None:
        self.scenes = scenes
        self.seen: list[tuple[int, Image.Image]] = []

    def found(self, index: int, image: Image.Image) -> bool:
        """What is even."""
        self.seen.append((index, image))
        return index % 2 == 0

    def edge_steps(self, index: int, image: Image.Image) -> tuple[float, float]:
        """A seam of 1.5."""
        assert image.size == self.scenes[index].image.size
        return 3.0, 2.0


def ladder_of(
    folder: Path, *, cases: int = 3, judge: bool = True, warm_up: int = 1
) -> tuple[LadderSettings, Onlooker]:
    scenes = plain_scenes(cases, (SIDE, SIDE))
    onlooker = Onlooker(scenes)
    looking: Judge | None = onlooker if judge else None
    made = LadderSettings(
        manifest=load_manifest(BUNDLE),
        judge=looking,
        scenes=make_scenes(scenes, folder, steps=2),
        warm_up=warm_up,
        limits=LIMITS["float32"],
    )
    return made, onlooker


def exact(spec: RunnerSpec) -> Rung:
    return Rung(runner=spec)


def by_name(rows: Sequence[Row]) -> dict[str, Row]:
    return {row.name: row for row in rows}


FIRST = exact(odd(BASELINE, side=SIDE))


@pytest.mark.usefixtures("odd_path")
def test_exact_rungs_are_checked_and_all_are_judged(tmp_path: Path) -> None:
    rungs = [
        FIRST,
        exact(odd("same", side=SIDE)),
        exact(odd("another image", side=SIDE, shade=40)),
        Rung(runner=odd("quick", side=SIDE, shade=40), quality="fast"),
        exact(odd("picky", fails="start")),
        exact(odd("mortal", side=SIDE, dies=3)),
    ]
    settings, onlooker = ladder_of(tmp_path)
    reports: list[tuple[Row, ...]] = []
    rows = by_name(measure_ladder([rungs], demo_launcher(tmp_path), settings, reports.append))
    assert {name: row.status for name, row in rows.items()} == {
        BASELINE: "ok",
        "same": "ok",
        "another image": "wrong",
        "quick": "ok",
        "picky": "failed",
        "mortal": "failed",
    }
    assert rows["picky"].reason == "RuntimeError: the checkpoint is not to my taste"
    assert rows["mortal"].series["total"].statistics.count == 1
    assert rows["quick"].series["ratio"].samples == (1.0, 1.0, 1.0)
    assert rows["quick"].values["psnr"] == pytest.approx(16.09, abs=0.01)
    assert rows["same"].values["psnr"] == pytest.approx(58.92, abs=0.01)
    assert rows["same"].values["share_found"] == pytest.approx(2 / 3)
    assert (rows["same"].values["seam"], rows["picky"].values) == (1.5, {})
    assert "psnr" not in rows[BASELINE].values
    assert [len(report) for report in reports] == [6, 6, 6]
    assert sorted(index for index, _ in onlooker.seen) == [0] * 5 + [1] * 4 + [2] * 4
    assert (rows["quick"].case["quality"], rows["same"].case["quality"]) == ("fast", "exact")


@pytest.mark.usefixtures("odd_path")
def test_pairs_have_the_first_rung_beside_each_other(tmp_path: Path) -> None:
    one, two = exact(odd("one", side=SIDE)), exact(odd("two", side=SIDE, shade=40))
    settings, _ = ladder_of(tmp_path, judge=False)
    groups = [[FIRST, one], [FIRST, two]]
    rows = measure_ladder(groups, demo_launcher(tmp_path), settings)
    assert [(row.name, row.status) for row in rows] == [(BASELINE, "ok"), ("one", "ok"), ("two", "wrong")]
    assert rows[1].values.keys() == {"psnr"}


@pytest.mark.usefixtures("odd_path")
def test_without_the_first_rung_images_are_judged_alone(tmp_path: Path) -> None:
    settings, _ = ladder_of(tmp_path, cases=1)
    rungs = [exact(odd(BASELINE, fails="run")), exact(odd("good", side=SIDE))]
    first, good = measure_ladder([rungs], demo_launcher(tmp_path), settings)
    assert (first.status, good.status) == ("failed", "ok")
    assert good.values["share_found"] == 1
    assert "psnr" not in good.values
    assert "ratio" not in good.series


@pytest.mark.usefixtures("odd_path")
def test_images_keep_the_source_outside_of_the_mask(tmp_path: Path) -> None:
    settings, onlooker = ladder_of(tmp_path, cases=1)
    measure_ladder([[FIRST]], demo_launcher(tmp_path), settings)
    ((_, image),) = onlooker.seen
    scene = settings.scenes[0].scene
    outside = np.asarray(scene.mask.convert("L")) == 0
    assert np.array_equal(np.asarray(image)[outside], np.asarray(scene.image.convert("RGB"))[outside])


def test_rungs_are_chosen_behind_the_first() -> None:
    assert [rung.name for rung in choose_rungs(["fast", "exact"], "cpu")] == [BASELINE, "exact", "fast"]
    names = [rung.name for rung in choose_rungs([], "cpu")]
    assert names == [
        *(BASELINE, "exact", "exact, OpenVINO", "balanced", "fast", "fast, OpenVINO"),
        "fast, OpenVINO, bf16",
    ]
    last = choose_rungs([], "cpu")[-1]
    assert (last.quality, last.is_ours) == ("fast", True)
    assert last.runner.options == {"backend": "openvino", "precision": "bf16"}
    assert "fast, TensorRT" in [rung.name for rung in choose_rungs([], "cuda")]


def test_an_unknown_rung_is_refused() -> None:
    with pytest.raises(ParameterError, match="there is no such rung on cpu") as caught:
        choose_rungs(["fastest"], "cpu")
    assert caught.value.parameter == "rung"
    assert "exact, OpenVINO" in str(caught.value.expected)


def source(**options: str) -> Source:
    return Source(checkpoint=None, bundle=str(BUNDLE), threads=1, work="", options=options)


def test_our_worker_paints_what_a_word_stands_for(tmp_path: Path) -> None:
    settings, _ = ladder_of(tmp_path, cases=1)
    case = settings.scenes[0].case
    runner = make_runner()
    runner.start(source(backend="onnxruntime"))
    fast, plain = runner.run(replace(case, quality="fast")).images, runner.run(case).images
    runner.close()
    with InpaintPipeline.from_bundle(BUNDLE, threads=1) as pipe:
        scene = settings.scenes[0].scene
        size = {"height": SIDE, "width": SIDE}
        options = {"quality": "fast", "seed": 0, "guidance_scale": 7.5, "compat": "diffusers", **size}
        expected = pipe(scene.prompt, scene.image, scene.mask, **options).images[0]  # type: ignore[arg-type]
    assert np.abs(fast[0].astype(int) - np.asarray(expected)).max() <= 1
    assert np.abs(fast.astype(int) - plain).max() > 1


def test_our_worker_hands_options_to_the_backend() -> None:
    runner = OurRunner()
    with pytest.raises(ParameterError, match="precision"):
        runner.start(source(backend="onnxruntime", precision="bf16"))


def test_a_ladder_of_the_demo(tmp_path: Path) -> None:
    output = tmp_path / "ladder.json"
    words = ["--rung", "exact", "--rung", "fast", "--cases", "1", "--steps", "2", "--warm-up", "0"]
    place = ["--threads", "1", "--work", str(tmp_path / "work"), "-o", str(output)]
    result = CliRunner().invoke(app, ["bench", "ladder", *words, *place], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    report = load_report(output)
    first, ours, fast = report.rows
    assert [row.status for row in report.rows] == ["ok"] * 3
    assert report.settings["judge"] == "demo"
    assert ours.picture is not None
    assert ours.picture.max_difference <= 1
    assert fast.picture is None
    chosen = qualities_of(load_manifest(BUNDLE))["fast"]
    assert (fast.case["steps"], fast.case["sampler"]) == (chosen.num_inference_steps, chosen.scheduler)
    for row in (ours, fast):
        assert row.memory is not None
        assert row.values.keys() == {"psnr", "share_found", "standard_error", "seam"}
    assert first.values.keys() == {"share_found", "standard_error", "seam"}
    assert "| fast |" in result.output
