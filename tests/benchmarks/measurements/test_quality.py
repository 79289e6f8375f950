"""Quality against speed: settings are all combined, counted and judged, and chosen by the rules."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from inpaintrt import InpaintPipeline
from inpaintrt.bundle import QualitySettings, load_manifest
from inpaintrt.cli import app
from inpaintrt.errors import InpaintError, ParameterError
from inpaintrt.store import find_bundle
from inpaintrt_bench.measurements.judges import Scene, default_judge, load_judge, plain_scenes, standard_error
from inpaintrt_bench.measurements.quality import all_settings, measure_quality
from inpaintrt_bench.measurements.quality_choice import RULES, choose
from inpaintrt_bench.report.files import load_report
from inpaintrt_bench.report.schema import Row, make_series

FULL, HALF = (0.0, 1.0), (0.0, 0.5)
PAINTED = "painted"


def setting(sampler: str, steps: int, interval: tuple[float, float] = FULL) -> QualitySettings:
    (made,) = all_settings([sampler], [steps], [interval])
    return made


@pytest.fixture(scope="module")
def pipe() -> Iterator[InpaintPipeline]:
    with InpaintPipeline.from_bundle("demo", threads=1) as pipe:
        yield pipe


def test_every_combination_is_a_setting() -> None:
    settings = all_settings(["ddim", "unipc"], [5, 10], [FULL, HALF], "leading")
    assert len({str(setting) for setting in settings}) == len(settings) == 8
    assert settings[-1].options == {
        "scheduler": "unipc",
        "num_inference_steps": 10,
        "timestep_spacing": "leading",
        "guidance_interval": HALF,
    }


def test_real_images_are_judged(pipe: InpaintPipeline) -> None:
    seen: list[int] = []
    exact, good, half, bad = measure_quality(
        pipe,
        [setting("ddim", 12), setting("ddim", 12, HALF), setting("ddim", 1)],
        load_judge("demo", 2),
        cases=2,
        exact_steps=12,
        progress=seen.append,
    )
    assert seen == [1, 2]
    evaluations = [row.values["unet_evaluations"] for row in (exact, good, half, bad)]
    assert evaluations == [26, 24, 18, 2]
    assert good.values["share_found"] == 1
    assert exact.values["share_found"] in (0, 0.5, 1)
    assert bad.values["share_found"] == 0
    assert 0.5 < float(str(good.values["seam"])) < 2
    assert "psnr" not in exact.values
    assert float(str(good.values["psnr"])) > float(str(bad.values["psnr"])) > 5
    assert (good.name, exact.name, good.case["precision"]) == ("ddim", "exact", "fp32")
    assert good.series["ratio"].statistics.count == good.series["total"].statistics.count == 2
    assert set(exact.series["ratio"].samples) == {1.0}


def test_without_a_judge_the_demos_scene_is_compared_alone(pipe: InpaintPipeline) -> None:
    exact, row = measure_quality(pipe, [setting("ddim", 4)], None, cases=1, exact_steps=4)
    assert row.values.keys() == {"psnr", "unet_evaluations"}
    assert exact.values.keys() == {"unet_evaluations"}


def test_plain_scenes_have_the_checkpoints_size_and_take_turns_in_prompts() -> None:
    scenes = plain_scenes(4, (96, 64))
    assert {scene.image.size for scene in scenes} == {scene.mask.size for scene in scenes} == {(96, 64)}
    assert scenes[0].prompt == scenes[3].prompt != scenes[1].prompt


def test_the_demo_checkpoint_has_a_judge_and_others_have_none() -> None:
    manifest = load_manifest(find_bundle("demo"))
    assert default_judge(manifest) == "demo"
    other = msgspec.structs.replace(manifest.checkpoint, sha256="0" * 64)
    assert default_judge(msgspec.structs.replace(manifest, checkpoint=other)) == "none"
    assert load_judge("none", 5) is None


class Pedant:
    """A judge that finds nothing right."""

    name = "pedant"

    def __init__(self, count: int) -> None:
        self.scenes = plain_scenes(count, (64, 64))

    def found(self, index: int, image: Image.Image) -> bool:
        """Nothing is."""
        assert image.size == self.scenes[index].image.size
        return False

    def edge_steps(self, index: int, image: Image.Image) -> tuple[float, float]:
        """A seam of 2."""
        del index, image
        return 2.0, 1.0


def test_a_judge_of_ones_own(pipe: InpaintPipeline) -> None:
    judge = load_judge(f"{__name__}:Pedant", 1)
    assert isinstance(judge, Pedant)
    assert isinstance(judge.scenes[0], Scene)
    _, row = measure_quality(pipe, [setting("ddim", 1)], judge, cases=1, exact_steps=1)
    assert (row.values["share_found"], row.values["seam"]) == (0, 2)


@pytest.mark.parametrize("name", ["judges", "no.such:thing", f"{__name__}:missing"])
def test_an_unknown_judge_is_refused(name: str) -> None:
    with pytest.raises(ParameterError, match="no such judge") as caught:
        load_judge(name, 1)
    assert caught.value.parameter == "judge"


def test_without_a_source_checkout_the_error_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "inpaintrt_demo"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "inpaintrt_demo", None)
    with pytest.raises(InpaintError, match="classifier of its results are not installed") as caught:
        load_judge("demo", 1)
    assert "source checkout" in str(caught.value)


def test_the_error_of_a_share_is_that_of_counting() -> None:
    random = np.random.default_rng(0)
    shares = random.binomial(50, 0.8, 20_000) / 50
    assert standard_error(0.8, 50) == pytest.approx(shares.std(), rel=0.02)
    assert standard_error(1.0, 50) == 0


def row(ratio: float, psnr: float | None = None, found: float | None = None, seam: float = 1.3) -> Row:
    values = {"psnr": psnr, "share_found": found, "seam": None if found is None else seam}
    return Row(
        name=PAINTED,
        case={"steps": 20},
        values={name: value for name, value in values.items() if value is not None},
        series={"ratio": make_series([ratio], "ratio")},
    )


def chosen(exact: Row, *rows: Row) -> dict[str, Row]:
    settings = all_settings(["ddim"], range(1, 1 + len(rows)), [FULL])
    found = choose(exact, list(zip(settings, rows, strict=True))).chosen
    for made, its_row in found.values():
        assert rows[made.num_inference_steps - 1] is its_row
    return {word: its_row for word, (_, its_row) in found.items()}


def test_of_those_that_keep_a_rule_the_fastest_is_chosen() -> None:
    exact = row(1, found=0.92)
    lost, blurred = row(0.1, 31, 0.85), row(0.2, 29, 0.9)
    seamy, near, slow = row(0.15, 31, 0.92, seam=1.6), row(0.4, 31, 0.91), row(0.6, 35, 0.95)
    assert chosen(exact, lost, blurred, seamy, near, slow) == {"fast": blurred, "balanced": near}


def test_of_equally_fast_ones_that_which_finds_more_is_chosen() -> None:
    exact = row(1, found=0.92)
    first, better, behind = row(0.30, 32, 0.92), row(0.31, 31, 0.94), row(0.33, 40, 1.0)
    assert chosen(exact, first, better, behind) == {"fast": better, "balanced": better}


def test_without_a_judge_the_psnr_decides() -> None:
    far, middle, near = row(0.1, 24.9), row(0.2, 25), row(0.5, 30)
    assert chosen(row(1), far, middle, near) == {"fast": middle, "balanced": near}


def test_a_word_without_a_good_setting_is_left_out() -> None:
    exact = row(1, found=0.92)
    made = choose(exact, [(setting("ddim", 4), row(1.1, 50, 1.0)), (setting("ddim", 5), row(0.5, 20, 0.5))])
    assert made.chosen == {}
    assert made.text.count("no setting is good enough") == len(RULES)


def _bench(*arguments: object) -> Result:
    words = ["bench", *map(str, arguments)]
    return CliRunner().invoke(app, words, catch_exceptions=False)


def test_quality_of_a_bundle(tmp_path: Path) -> None:
    bundle = shutil.copytree(find_bundle("demo"), tmp_path / "copy")
    output = tmp_path / "quality.json"
    choices = ["--sampler", "ddim", "--steps", "1", "--steps", "8", "--guidance-until", "1"]
    options = ["--cases", "1", "--exact-steps", "16", "--threads", "1", "--write", "-o", output]
    result = _bench("quality", bundle, *choices, *options)
    assert result.exit_code == 0, result.output
    assert "UNet evaluations" in result.output
    report = load_report(output)
    assert [row.case["steps"] for row in report.rows] == [16, 1, 8]
    assert (report.settings["judge"], report.settings["cases"]) == ("demo", 1)
    measured = load_manifest(bundle).quality
    for word, figures in measured.items():
        assert f"{word}: num_inference_steps {figures.settings.num_inference_steps}" in result.output
        assert (figures.exact_steps, figures.backend, figures.date) == (16, "onnxruntime", report.date)
        assert figures.judged is not None
        assert figures.judged.cases == 1
    assert "fast" in measured, "eight steps find what sixteen find"
