"""The measurements of the runtime's own cost measure what they say."""

import importlib.util
from pathlib import Path

import pytest
from click.testing import CliRunner

import inpaintrt.pipeline
from inpaintrt.cli import app
from inpaintrt.samplers import sampler_names
from inpaintrt_bench.measurements.overhead import around_engines, compile_tables, import_time
from inpaintrt_bench.report.files import load_report


def test_the_share_outside_the_engines_is_a_share(tiny_bundle: Path) -> None:
    row = around_engines(str(tiny_bundle), repeats=2)
    assert row.series["share"].statistics.count == 2
    assert row.series["share"].statistics.minimum > 0
    assert row.series["share"].statistics.maximum < 1
    assert row.series["total"].statistics.minimum > 0


def test_every_sampler_is_compiled() -> None:
    row = compile_tables(repeats=1)
    assert row.case["sampler"] in sampler_names()
    assert row.series["total"].statistics.median > 0


def test_imports_are_taken_in_turns() -> None:
    row = import_time(repeats=1)
    assert row.series["import"].statistics.count == row.series["total"].statistics.count == 1
    assert row.series["import"].statistics.median > 0


def test_imports_find_what_was_compiled_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    compiled = Path(importlib.util.cache_from_source(inpaintrt.pipeline.__file__))
    compiled.unlink(missing_ok=True)
    import_time(repeats=1)
    assert compiled.is_file()


def test_the_command_writes_a_report(tiny_bundle: Path, tmp_path: Path) -> None:
    path = tmp_path / "overhead.json"
    words = ["bench", "overhead", "-b", str(tiny_bundle), "--repeats", "1", "-o", str(path)]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    rows = load_report(path).rows
    assert len(rows) == 3
    assert [row.name in result.output for row in rows] == [True] * 3


def test_committed_results_meet_what_the_project_promises() -> None:
    results = Path(__file__).parents[3] / "benchmarks" / "results"
    share, tables, imports = load_report(results / "overhead.json").rows
    assert share.series["share"].statistics.median < 0.05
    assert tables.series["total"].statistics.median < 0.02 * share.series["total"].statistics.median
    assert imports.series["total"].statistics.median < 0.3
    ours = load_report(results / "size.json").rows[0]
    assert ours.name == "inpaintrt"
    assert int(str(ours.values["bytes"])) < 200e6
