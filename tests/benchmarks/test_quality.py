"""Quality against speed: settings are all combined, counted and judged."""

import numpy as np
import pytest

from inpaintrt_bench.measurements.quality import Setting, all_settings, measure_quality, standard_error

FULL, HALF = (0.0, 1.0), (0.0, 0.5)


def test_every_combination_is_a_setting() -> None:
    settings = all_settings(["demo"], ["ddim", "unipc"], [5, 10], [FULL, HALF])
    assert len(set(settings)) == len(settings) == 8
    assert settings[0] == Setting("demo", "ddim", 5)
    assert settings[-1] == Setting("demo", "unipc", 10, HALF)


def test_real_pictures_are_judged() -> None:
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


def test_the_error_of_a_share_is_that_of_counting() -> None:
    random = np.random.default_rng(0)
    shares = random.binomial(50, 0.8, 20_000) / 50
    assert standard_error(0.8, 50) == pytest.approx(shares.std(), rel=0.02)
    assert standard_error(1.0, 50) == 0
