"""The cost of a mask: drawn shares are true, and a row holds what was measured."""

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from inpaintrt.cli import app
from inpaintrt.errors import ParameterError
from inpaintrt_bench.measurements.mask import draw_image, draw_mask, measure_mask
from inpaintrt_bench.processes import run_alone
from inpaintrt_bench.report.files import load_report

LARGE = (4000, 3000)


@pytest.mark.parametrize("share", [0.01, 0.05, 0.2, 0.6, 0.785])
def test_a_mask_covers_the_asked_share(share: float) -> None:
    white = np.asarray(draw_mask(LARGE, share)) == 255
    assert white.mean() == pytest.approx(share, rel=2e-3)


@pytest.mark.parametrize("share", [0.0, -0.1, 0.8, 1.0])
def test_a_share_that_no_ellipse_has_is_refused(share: float) -> None:
    with pytest.raises(ParameterError, match="no ellipse has this share"):
        draw_mask(LARGE, share)


def test_an_image_is_the_same_for_the_same_seed() -> None:
    first, again, other = (np.asarray(draw_image((64, 48), seed)) for seed in (1, 1, 2))
    assert first.shape == (48, 64, 3)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_row_tells_what_a_large_image_costs() -> None:
    row = run_alone(measure_mask, "demo", (1200, 900), 0.05, steps=2, repeats=2)
    assert row.case == {"share": 0.05}
    assert row.series["total"].statistics.count == 2
    stages = {name: series.statistics.count for name, series in row.stages.items()}
    assert set(stages.values()) == {2}
    totals = np.array(row.series["total"].samples)
    assert np.allclose(np.sum([series.samples for series in row.stages.values()], axis=0), totals)
    values = {name: float(str(value)) for name, value in row.values.items()}
    assert 0.05 < values["box_share"] < 1
    assert values["run_width"] * values["run_height"] == pytest.approx(128 * 128, rel=0.1)
    assert row.memory is not None
    assert row.memory.peak_resident is not None
    assert row.memory.peak_resident > values["bytes_before"] > 10e6


def _bench(*arguments: str | Path) -> Result:
    words = ["bench", *map(str, arguments)]
    return CliRunner().invoke(app, words, catch_exceptions=False)


def test_masks_of_a_large_image(tmp_path: Path) -> None:
    output = tmp_path / "mask.json"
    sizes = ["--width", "1000", "--height", "600", "--share", "2", "--share", "30"]
    result = _bench("mask", *sizes, "--steps", "1", "--repeats", "1", "-o", output)
    assert "| 30 % |" in result.output
    report = load_report(output)
    assert report.settings == {"bundle": "demo", "width": 1000, "height": 600, "steps": 1}
    assert [row.name for row in report.rows] == ["2 %", "30 %"]
    assert report.machine.cores


def test_a_share_that_no_mask_has_is_refused() -> None:
    assert _bench("mask", "--share", "79").exit_code == 2
