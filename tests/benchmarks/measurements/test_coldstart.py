"""Cold starts are measured in turns, and failures are rows."""

from pathlib import Path

import pytest

from benchmarks.odd import demo_case, demo_launcher, odd, odd_path
from inpaintrt_bench.measurements.coldstart import measure_cold_starts
from inpaintrt_bench.runners.catalogue import choose_runners

__all__ = ["odd_path"]


@pytest.mark.usefixtures("odd_path")
def test_a_cold_start_is_more_than_its_parts(tmp_path: Path) -> None:
    specs = [*choose_runners(("inpaintrt-onnxruntime",), "cpu"), odd("picky", fails="start")]
    told: list[int] = []
    ours, picky = measure_cold_starts(
        specs,
        demo_launcher(tmp_path),
        demo_case(tmp_path),
        rounds=2,
        report=lambda rows: told.append(len(rows)),
    )
    assert told == [2, 2, 2]
    assert set(ours.series) == {"cold_start", "import", "start", "first_run"}
    samples = {name: series.samples for name, series in ours.series.items()}
    parts = zip(samples["import"], samples["start"], samples["first_run"], strict=True)
    assert all(whole > sum(part) > 0 for whole, part in zip(samples["cold_start"], parts, strict=True))
    assert ours.series["cold_start"].warm_up == 1
    assert ours.memory is not None
    assert (picky.status, picky.reason) == ("failed", "RuntimeError: the checkpoint is not to my taste")
    assert picky.series == {}
