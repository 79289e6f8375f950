"""A comparison marks what fails and what paints something else, and loses nothing of the rest."""

from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import pytest

from benchmarks.odd import BUNDLE, demo_case, demo_launcher, odd, odd_path
from inpaintrt.errors import ParameterError
from inpaintrt_bench.measurements.compare import Comparison, compare_runners
from inpaintrt_bench.report.image_comparison import LIMITS
from inpaintrt_bench.report.schema import STAGES, Peak, Row
from inpaintrt_bench.runners.catalogue import BASELINE, RunnerSpec, choose_runners, runner_names
from inpaintrt_bench.runners.work import try_count_work

__all__ = ["odd_path"]


def run(work: Path, specs: list[RunnerSpec], *, in_pairs: bool = False, timeout: float = 300.0) -> list[Row]:
    settings = Comparison(
        case=demo_case(work), warm_up=1, rounds=3, in_pairs=in_pairs, limits=LIMITS["float32"]
    )
    return list(compare_runners(specs, demo_launcher(work, timeout=timeout), settings))


@pytest.mark.usefixtures("odd_path")
def test_failures_are_rows_with_their_reason(tmp_path: Path) -> None:
    absent = RunnerSpec(name="absent", module="benchmarks.no_such_runner", needs="checkpoint")
    rows = run(
        tmp_path,
        [
            odd(BASELINE),
            odd("good"),
            odd("not for here", prepares="nothing", fails="prepare"),
            odd("picky", fails="start"),
            odd("idle", fails="run"),
            absent,
        ],
    )
    found = {row.name: (row.status, row.reason) for row in rows}
    assert found == {
        BASELINE: ("ok", None),
        "good": ("ok", None),
        "not for here": ("failed", "RuntimeError: this library is not for this machine"),
        "picky": ("failed", "RuntimeError: the checkpoint is not to my taste"),
        "idle": ("failed", "RuntimeError: out of ideas"),
        "absent": ("failed", "ModuleNotFoundError: No module named 'benchmarks.no_such_runner'"),
    }
    assert all("total" not in row.series for row in rows if row.status == "failed")


@pytest.mark.usefixtures("odd_path")
def test_a_runner_that_dies_midway_keeps_what_it_measured(tmp_path: Path) -> None:
    baseline, mortal = run(tmp_path, [odd(BASELINE), odd("mortal", dies=3)])
    assert mortal.status == "failed"
    assert mortal.reason == "the process ended with status 3 during 'run': last words"
    assert mortal.series["total"].statistics.count == 1
    assert baseline.series["total"].statistics.count == 3


@pytest.mark.usefixtures("odd_path")
def test_a_runner_that_hangs_is_ended(tmp_path: Path) -> None:
    (row,) = run(tmp_path, [odd("sleeper", hangs=True)], timeout=5.0)
    assert row.status == "failed"
    assert row.reason == "no answer to 'run' within 5 s"


@pytest.mark.usefixtures("odd_path")
@pytest.mark.parametrize(
    ("options", "reason"), [({"shade": 40}, "psnr 16.1, at least 40"), ({"side": 24}, "shape")]
)
def test_a_wrong_image_is_marked_whatever_its_speed(
    tmp_path: Path, options: dict[str, Any], reason: str
) -> None:
    _, row = run(tmp_path, [odd(BASELINE), odd("another image", **options)])
    assert row.status != "ok"
    assert row.reason is not None
    assert reason in row.reason


@pytest.mark.usefixtures("odd_path")
def test_a_dead_baseline_leaves_the_others_without_ratio_and_image(tmp_path: Path) -> None:
    baseline, row = run(tmp_path, [odd(BASELINE, fails="start"), odd("good")])
    assert baseline.status == "failed"
    assert row.status == "ok"
    assert row.picture is None
    assert "ratio" not in row.series


@pytest.mark.usefixtures("odd_path")
def test_pairs_share_their_rounds_with_a_baseline_of_their_own(tmp_path: Path) -> None:
    rows = run(tmp_path, [odd(BASELINE), odd("one"), odd("two", shade=40)], in_pairs=True)
    assert [(row.name, row.status) for row in rows] == [(BASELINE, "ok"), ("one", "ok"), ("two", "wrong")]
    assert all(row.series["ratio"].samples == (1.0, 1.0, 1.0) for row in rows)


@pytest.mark.usefixtures("odd_path")
def test_what_is_measured_is_reported_after_every_round(tmp_path: Path) -> None:
    settings = Comparison(
        case=demo_case(tmp_path), warm_up=1, rounds=2, in_pairs=True, limits=LIMITS["float32"]
    )
    told: list[list[tuple[str, int]]] = []
    compare_runners(
        [odd(BASELINE), odd("one"), odd("two")],
        demo_launcher(tmp_path),
        settings,
        lambda rows: told.append([(row.name, row.series["total"].statistics.count) for row in rows]),
    )
    assert told == [
        [(BASELINE, 1), ("one", 1)],
        [(BASELINE, 2), ("one", 2)],
        [(BASELINE, 2), ("one", 2), ("two", 1)],
        [(BASELINE, 2), ("one", 2), ("two", 2)],
    ]


@pytest.mark.usefixtures("odd_path")
def test_an_interrupt_ends_the_processes_and_leaves_what_was_measured(tmp_path: Path) -> None:
    settings = Comparison(
        case=demo_case(tmp_path), warm_up=1, rounds=3, in_pairs=False, limits=LIMITS["float32"]
    )
    told: list[tuple[Row, ...]] = []

    def interrupt(rows: tuple[Row, ...]) -> None:
        told.append(rows)
        raise KeyboardInterrupt

    before = set(psutil.Process().children(recursive=True))
    with pytest.raises(KeyboardInterrupt):
        compare_runners([odd(BASELINE), odd("one")], demo_launcher(tmp_path), settings, interrupt)
    assert set(psutil.Process().children(recursive=True)) <= before
    assert [row.series["total"].statistics.count for row in told[0]] == [1, 1]


@pytest.mark.usefixtures("odd_path")
def test_stages_and_the_rest_add_up(tmp_path: Path) -> None:
    (row,) = run(tmp_path, [odd(BASELINE)])
    medians = {name: series.statistics.median for name, series in row.stages.items()}
    assert medians == {"prepare": 0.125, "denoise": 0.75, "rest": 1.125}
    assert row.series["step"].samples == (0.25, 0.5) * 3
    assert row.series["total"].warm_up == 1
    assert row.series["cold_start"].statistics.minimum > 0


def test_a_runner_without_its_source_says_which_option_names_it(tmp_path: Path) -> None:
    settings = Comparison(
        case=demo_case(tmp_path), warm_up=1, rounds=1, in_pairs=False, limits=LIMITS["float32"]
    )
    launcher = demo_launcher(tmp_path, checkpoint=None)
    (row,) = compare_runners(choose_runners((BASELINE,), "cpu"), launcher, settings)
    assert row.reason == "there is no checkpoint: name one with --checkpoint"


def test_unknown_runners_are_refused_with_those_that_there_are() -> None:
    assert runner_names("cpu")[0] == runner_names("cuda")[0] == BASELINE
    with pytest.raises(ParameterError, match="inpaintrt-onnxruntime"):
        choose_runners(("fastest",), "cpu")


def test_ours_paints_what_diffusers_paints(tmp_path: Path) -> None:
    case = demo_case(tmp_path, sampler="ddim")
    settings = Comparison(case=case, warm_up=1, rounds=2, in_pairs=False, limits=LIMITS["float32"])
    specs = choose_runners((BASELINE, "inpaintrt-onnxruntime"), "cpu")
    rows = compare_runners(specs, demo_launcher(tmp_path), settings)
    peak = Peak(operations_per_second=1e12, dtype="float32", size=2, library="none")
    theirs, ours = try_count_work(BUNDLE, case, print).add_to(rows, peak)
    assert (theirs.status, theirs.reason) == ("ok", None)
    assert (ours.status, ours.reason) == ("ok", None)
    assert ours.picture is not None
    assert ours.picture.max_difference <= 1
    for row in (theirs, ours):
        assert list(row.stages) == list(STAGES)
        assert all(min(series.samples) > 0 for name, series in row.stages.items() if name != "rest")
        assert row.series["step"].statistics.count == 2 * case.num_inference_steps
        assert row.memory is not None
        assert row.memory.peak_resident is not None
        assert row.memory.peak_resident > 50e6
        assert row.work["total"].operations > row.work["denoiser"].operations > 0
        assert 0 < (row.work["denoiser"].share_of_peak or 0) < 1
    assert "torch" in theirs.versions
