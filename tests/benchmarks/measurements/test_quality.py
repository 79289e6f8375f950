"""Quality against speed: settings are all combined, counted and classified."""

import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from inpaintrt.cli import app
from inpaintrt.errors import InpaintError
from inpaintrt_bench.measurements.quality import Setting, all_settings, measure_quality, standard_error
from inpaintrt_bench.report.files import load_report

FULL, HALF = (0.0, 1.0), (0.0, 0.5)


def test_every_combination_is_a_setting() -> None:
    settings = all_settings(["demo"], ["ddim", "unipc"], [5, 10], [FULL, HALF])
    assert len(set(settings)) == len(settings) == 8
    assert settings[0] == Setting("demo", "ddim", 5)
    assert settings[-1] == Setting("demo", "unipc", 10, HALF)


def test_real_images_are_classified() -> None:
    seen: list[int] = []
    good, half, bad = measure_quality(
        [Setting("demo", "ddim", 12), Setting("demo", "ddim", 12, HALF), Setting("demo", "ddim", 1)],
        cases=2,
        progress=seen.append,
    )
    assert seen == [1, 2]
    evaluations = [row.values["unet_evaluations"] for row in (good, half, bad)]
    assert evaluations == [24, 18, 2]
    assert good.values["share_found"] == 1
    assert bad.values["share_found"] == 0
    assert 0.5 < float(str(good.values["seam"])) < 2
    assert good.case["precision"] == "fp32"
    assert good.series["total"].statistics.count == 2


def test_without_a_source_checkout_the_error_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "inpaintrt_demo"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "inpaintrt_demo", None)
    with pytest.raises(InpaintError, match="classifier of its results are not installed") as caught:
        measure_quality([Setting("demo", "ddim", 1)], cases=1)
    assert "source checkout" in str(caught.value)


def test_the_error_of_a_share_is_that_of_counting() -> None:
    random = np.random.default_rng(0)
    shares = random.binomial(50, 0.8, 20_000) / 50
    assert standard_error(0.8, 50) == pytest.approx(shares.std(), rel=0.02)
    assert standard_error(1.0, 50) == 0


def _bench(*arguments: str | Path) -> Result:
    words = ["bench", *map(str, arguments)]
    return CliRunner().invoke(app, words, catch_exceptions=False)


def test_quality_of_settings(tmp_path: Path) -> None:
    output = tmp_path / "quality.json"
    choices = ["--sampler", "ddim", "--steps", "1", "--steps", "2", "--guidance-until", "0.5"]
    result = _bench("quality", *choices, "--cases", "1", "-o", output)
    assert "UNet evaluations" in result.output
    report = load_report(output)
    assert [row.case["steps"] for row in report.rows] == [1, 2]
    assert {row.case["guidance_stop"] for row in report.rows} == {0.5}
