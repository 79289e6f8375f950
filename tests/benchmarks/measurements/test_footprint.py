"""The footprint of a bundle: each stage has its time and its own peak of memory."""

import os
import signal
from pathlib import Path

import pytest
from click.testing import CliRunner

from inpaintrt.cli import app
from inpaintrt.errors import BundleError
from inpaintrt_bench.measurements import footprint
from inpaintrt_bench.measurements.footprint import footprint_table, measure_footprint
from inpaintrt_bench.processes import run_alone
from inpaintrt_bench.report.files import load_report
from inpaintrt_bench.report.schema import Row


def test_every_stage_has_its_time_and_memory(tmp_path: Path) -> None:
    output = tmp_path / "footprint.json"
    words = ["bench", "footprint", "--bundle", "demo", "--size", "512x512", "--steps", "2", "-o", str(output)]
    result = CliRunner().invoke(app, words, catch_exceptions=False)
    assert "| one step |" in result.output
    report = load_report(output)
    assert report.settings["precision"] == "fp32"
    rows = {row.name: row for row in report.rows}
    assert list(rows) == ["load", "encode", "step", "decode"]
    step = rows["step"]
    assert step.series["step"].statistics.count == 2
    assert sum(step.series["step"].samples) <= float(str(step.values["seconds"]))
    assert _peak(rows["load"]) > 20e6
    assert _peak(step) > _peak(rows["load"]) + 20e6


def _peak(row: Row) -> int:
    assert row.memory is not None
    assert row.memory.peak_resident is not None
    return row.memory.peak_resident


def test_a_bundle_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BundleError):
        run_alone(measure_footprint, str(tmp_path / "absent"), (128, 128), 1)


def _die(bundle: str, size: tuple[int, int], steps: int) -> list[Row]:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError(bundle, size, steps)


def test_a_process_that_is_killed_is_a_row_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(footprint, "measure_footprint", _die)
    output = tmp_path / "footprint.json"
    CliRunner().invoke(app, ["bench", "footprint", "-o", str(output)], catch_exceptions=False)
    report = load_report(output)
    assert [(row.name, row.status) for row in report.rows] == [("load", "failed")]
    assert "memory runs out" in footprint_table(report)
