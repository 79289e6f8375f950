"""A sweep has a row for each case; a case that fails has its reason and leaves the others alone."""

from dataclasses import replace
from pathlib import Path

from benchmarks.odd import BUNDLE, demo_case, demo_launcher
from inpaintrt_bench.measurements.latency import add_work, measure_latency
from inpaintrt_bench.report.schema import Peak, Row, make_series
from inpaintrt_bench.runners.catalogue import choose_runners
from inpaintrt_bench.runners.work import try_count_work


def test_every_case_is_measured(tmp_path: Path) -> None:
    (spec,) = choose_runners(("inpaintrt-onnxruntime",), "cpu")
    one, two = demo_case(tmp_path), demo_case(tmp_path, steps=3, batch=2, sampler="ddim")
    bad = replace(one, guidance_scale=float("nan"))
    counts: list[list[int]] = []
    rows = measure_latency(
        spec,
        demo_launcher(tmp_path),
        [one, two, bad],
        warm_up=1,
        rounds=2,
        report=lambda some: counts.append(
            [row.series["total"].statistics.count if row.series else 0 for row in some]
        ),
    )
    assert counts == [[0, 0, 0], [1, 1, 0], [2, 2, 0]]
    assert [row.status for row in rows] == ["ok", "ok", "failed"]
    assert rows[1].case == {"batch": 2, "width": 64, "height": 64, "steps": 3, "sampler": "ddim"}
    assert rows[1].series["step"].statistics.count == 6
    assert "guidance_scale" in (rows[2].reason or "")


def test_each_case_has_its_own_work(tmp_path: Path) -> None:
    cases = [demo_case(tmp_path), demo_case(tmp_path, batch=2)]
    rows = [Row(name="ours", series={"total": make_series([1.0])}) for _ in cases]
    peak = Peak(operations_per_second=1e12, dtype="float32", size=2, library="none")
    one, two = add_work(rows, [try_count_work(BUNDLE, case, print) for case in cases], peak)
    assert two.work["denoiser"].operations > 1.9 * one.work["denoiser"].operations
    assert two.work["total"].share_of_peak == two.work["total"].operations / 1e12
