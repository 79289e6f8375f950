"""The subcommands that start runners, from the command line to the report."""

import re
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from inpaintrt.cli import app
from inpaintrt.errors import ParameterError
from inpaintrt_bench.report.files import load_report
from inpaintrt_bench.report.schema import Report

OURS = "inpaintrt-onnxruntime"


def invoke(*words: str) -> Result:
    return CliRunner().invoke(app, ["bench", *words])


def measure(folder: Path, *words: str, first: str = "measuring a matrix product") -> Report:
    """Run a subcommand whose progress has `first` in a line before anything is painted."""
    output = folder / "report.json"
    session = ("--size", "64x64", "--work", str(folder / "work"), "--threads", "1", "--output", str(output))
    result = invoke(*words, *session)
    assert result.exit_code == 0, result.output
    assert OURS in result.output
    assert first in re.split(r"starting|run 1 of|round 1 of", result.output)[0]
    report = load_report(output)
    assert report.complete
    assert report.machine.peak is not None
    return report


def test_compare(tmp_path: Path) -> None:
    report = measure(
        tmp_path, "compare", "--steps", "2", "--rounds", "2", "--runner", OURS, "--sampler", "ddim"
    )
    (row,) = report.rows
    assert report.settings["sampler"] == "ddim"
    assert (row.name, row.status) == (OURS, "ok")
    assert row.series["total"].statistics.count == 2
    assert row.work["denoiser"].runs == 2
    assert row.work["total"].share_of_peak is not None


def test_measurements_are_complete_where_operations_cannot_be_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "inpaintrt_bench.runners.flops", raising=False)
    monkeypatch.setitem(sys.modules, "onnxruntime.tools.symbolic_shape_infer", None)
    common = ("--steps", "2", "--rounds", "1", "--warm-up", "1")
    for words in (
        ("compare", *common, "--runner", OURS),
        ("latency", *common, "--batch", "1", "--batch", "2"),
    ):
        report = measure(tmp_path, *words, first="Operations are not counted: ModuleNotFoundError")
        (note,) = report.notes
        assert "symbolic_shape_infer" in note
        assert all(row.status == "ok" and not row.work for row in report.rows)


def test_latency(tmp_path: Path) -> None:
    words = ("latency", "--steps", "2", "--steps", "3", "--batch", "1", "--batch", "2", "--rounds", "1")
    report = measure(tmp_path, *words)
    found = [(row.case["steps"], row.case["batch"]) for row in report.rows]
    assert found == [(2, 1), (2, 2), (3, 1), (3, 2)]
    assert all(row.status == "ok" for row in report.rows)


def test_coldstart(tmp_path: Path) -> None:
    report = measure(tmp_path, "coldstart", "--steps", "2", "--rounds", "1", "--runner", OURS)
    (row,) = report.rows
    assert row.series["cold_start"].statistics.count == 1


@pytest.mark.parametrize("size", ["512", "12x512", "axb", "-64x64"])
def test_a_size_that_is_none_is_refused(size: str) -> None:
    result = invoke("compare", "--size", size)
    assert result.exit_code == 2
    assert re.search(r"is not\s+WIDTHxHEIGHT", result.output)


def test_an_unknown_runner_or_backend_is_refused_before_any_work(tmp_path: Path) -> None:
    for words in (("compare", "--runner", "fastest"), ("latency", "--backend", "tensorrt")):
        result = invoke(*words, "--work", str(tmp_path / "work"))
        assert isinstance(result.exception, ParameterError)
        assert not (tmp_path / "work").exists()
