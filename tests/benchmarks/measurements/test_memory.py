"""`inpaintrt bench memory`: real servers, and what is told of them."""

import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from inpaintrt.cli import app
from inpaintrt_bench.measurements.memory import memory_table, read_pythons
from inpaintrt_bench.report.files import load_report

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")


@pytest.mark.usefixtures("one_thread")
def test_sizes_are_served_or_refused_and_memory_is_told(tmp_path: Path) -> None:
    output = tmp_path / "memory.json"
    words = ["--sizes=128x128,512x512", "--steps=1", "--burst=2", f"--output={output}"]
    options = ["--server-option=--memory-budget=60000000"]
    result = CliRunner().invoke(app, ["bench", "memory", *words, *options])
    assert result.exit_code == 0, result.output
    report = load_report(output)
    assert report.complete
    small, large, burst = report.rows
    assert [row.case["requests"] for row in report.rows] == [1, 1, 2]
    assert small.status == "ok"
    idle, peak, after = (small.values[f"{name}_bytes"] for name in ("idle", "peak", "after"))
    assert isinstance(idle, int)
    assert isinstance(peak, int)
    assert isinstance(after, int)
    assert 50e6 < idle <= peak < 2e9
    assert after <= peak
    for row in (large, burst):
        assert row.status == "failed"
        assert row.reason is not None
        assert row.reason.startswith("status 422: ")
        assert "262144 pixels" in row.reason
    lines = memory_table(report).splitlines()
    assert lines[0] == "| server | size | requests | idle | peak | afterwards | verdict |"
    assert lines[2].startswith("| inpaintrt | 128 x 128 | 1 |")
    assert "status 422" in lines[3]


@pytest.fixture
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INPAINTRT_BACKEND_OPTIONS", "threads=1")


@pytest.mark.parametrize(
    ("option", "told"),
    [("--sizes=64", "64x64|512x512"), ("--sizes=ax8", "'ax8'"), ("--server=python3", "NAME=PYTHON")],
)
def test_words_that_cannot_be_read_are_told(option: str, told: str) -> None:
    result = CliRunner().invoke(app, ["bench", "memory", option])
    assert result.exit_code != 0
    assert any(part in result.output for part in told.split("|"))


def test_servers_have_names() -> None:
    assert read_pythons([], "/usr/bin/python3") == (("inpaintrt", "/usr/bin/python3"),)
    assert read_pythons(["old=/a/python", "new=/b=c/python"], "") == (
        ("old", "/a/python"),
        ("new", "/b=c/python"),
    )
