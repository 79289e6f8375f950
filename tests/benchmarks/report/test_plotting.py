"""Plots show the figures of their reports, and are small PNG files that know their source."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from benchmarks.reports import COMPARED, LADDER, MASKED, QUALITY, make_report
from inpaintrt_bench.measurements.compare import stage_bars
from inpaintrt_bench.measurements.ladder_report import rung_text
from inpaintrt_bench.measurements.mask import mask_costs
from inpaintrt_bench.measurements.quality_report import quality_points
from inpaintrt_bench.publishing import PLOTS
from inpaintrt_bench.report.plotting import PALETTE, read_source, save_figure, spreads
from inpaintrt_bench.report.schema import STAGES, Kind, Report, Row

LARGEST = 60_000
DRAWN = {"compare": COMPARED, "mask": MASKED, "quality": QUALITY, "ladder": LADDER}


@pytest.mark.parametrize(
    ("report", "name"), [(report, name) for kind, report in DRAWN.items() for name in PLOTS[report.kind]]
)
def test_a_plot_is_a_small_image_with_its_source(report: Report, name: str, tmp_path: Path) -> None:
    path = tmp_path / "plot.png"
    save_figure(PLOTS[report.kind][name](report), path, "abc")
    assert read_source(path) == "abc"
    assert 2_000 < path.stat().st_size < LARGEST
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert 700 < image.width < 1000
        assert 150 < image.height < 700
        pixels = np.asarray(image.convert("RGB"))
    assert (pixels[0] == 255).all(), "the ground is white, so that it can be read on dark pages, too"
    assert max(_area(pixels, color) for color in PALETTE) > 20


def _area(pixels: NDArray[np.uint8], color: str) -> int:
    """How many pixels are of a color, or nearly so."""
    wanted = np.array([int(color[at : at + 2], 16) for at in (1, 3, 5)])
    return int((np.abs(pixels.astype(int) - wanted).max(axis=2) < 20).sum())


@pytest.mark.parametrize("kind", sorted(PLOTS))
def test_a_report_without_figures_is_no_obstacle(kind: Kind, tmp_path: Path) -> None:
    report = make_report(kind, [Row(name="broken", status="failed", reason="not installed")])
    for draw in PLOTS[report.kind].values():
        save_figure(draw(report), tmp_path / "plot.png", "abc")


def test_what_is_no_plot_of_ours_has_no_source(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no image")
    Image.new("L", (4, 4)).save(tmp_path / "other.png")
    for name in ("absent.png", "text.png", "other.png"):
        assert read_source(tmp_path / name) is None


def test_bars_are_medians_of_stages() -> None:
    first, second = stage_bars(COMPARED)
    assert (first.label, second.label) == ("diffusers", "inpaintrt")
    assert list(first.seconds) == list(STAGES)
    assert first.total == pytest.approx(2.0)
    assert second.seconds["denoise"] == pytest.approx(1 / 8)


def test_every_sample_is_shown() -> None:
    first, second = spreads(COMPARED)
    assert first.samples == pytest.approx((2.0, 2.4, 1.8))
    assert (first.median, second.median) == pytest.approx((2.0, 1.0))


def test_costs_rise_with_the_share_whatever_the_order_of_the_rows() -> None:
    costs = mask_costs(make_report("mask", MASKED.rows[::-1]))
    assert costs.shares == pytest.approx((1, 20, 60))
    assert costs.milliseconds["prepare"] == pytest.approx((10, 200, 600))
    assert costs.milliseconds["denoise"] == pytest.approx((500, 500, 500))
    assert costs.megabytes == pytest.approx((110, 300, 700))


def test_points_tell_cost_quality_and_what_sets_them_apart() -> None:
    first, *_ = quality_points(QUALITY)
    assert (first.group, first.label) == ("ddim", "5 steps")
    assert (first.evaluations, first.gain, first.error) == pytest.approx((10, 40, 5))
    assert first.seconds == pytest.approx(0.1)


def test_without_a_judge_points_tell_the_psnr(tmp_path: Path) -> None:
    row = Row(name="ddim", case={"steps": 8}, values={"psnr": 31.5, "unet_evaluations": 16})
    report = make_report("quality", [row])
    (point,) = quality_points(report)
    assert (point.gain, point.error) == (31.5, 0)
    save_figure(PLOTS["quality"]["pareto"](report), tmp_path / "plot.png", "abc")


def test_the_text_of_a_rung_leaves_out_what_was_not_measured() -> None:
    texts = [rung_text(row) for row in LADDER.rows]
    assert texts == [
        "800 ms, 1.00x, 92 % found",
        "100 ms, 0.12x, 90 % found, 27 dB",
        "-",
    ]


def test_precisions_and_intervals_are_named_where_they_differ() -> None:
    case = {"steps": 8, "guidance_start": 0.0, "guidance_stop": 0.5}
    rows = [Row(name="ddim", case={**case, "precision": precision}) for precision in ("fp16", "fp32")]
    points = quality_points(make_report("quality", rows))
    assert [point.group for point in points] == ["ddim fp16", "ddim fp32"]
    assert points[0].label == "8 steps, 0 to 0.5"
