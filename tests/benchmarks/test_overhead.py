"""The measurements of the runtime's own cost measure what they say."""

import json
from pathlib import Path

from inpaintrt.samplers import sampler_names
from inpaintrt_bench.overhead import around_engines, compile_tables, import_time
from inpaintrt_bench.report import write_report
from inpaintrt_bench.schema import load_report


def test_the_share_outside_the_engines_is_a_share(tiny_bundle: Path) -> None:
    result = around_engines(str(tiny_bundle), repeats=1)
    assert result["runs"] == 1
    assert 0 < result["share_outside_engines"] < 1
    assert result["seconds"] > 0


def test_every_sampler_is_compiled() -> None:
    result = compile_tables(repeats=1)
    assert result["slowest"] in sampler_names()
    assert result["milliseconds"] > 0


def test_imports_are_taken_in_turns() -> None:
    result = import_time(repeats=1)
    assert result["base_seconds"] > 0
    assert set(result) == {"base_seconds", "added_seconds"}


def test_a_report_names_the_machine_and_the_versions(tmp_path: Path) -> None:
    write_report({"answer": 42}, tmp_path / "report.json")
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["results"] == {"answer": 42}
    assert report["machine"]["cores"] >= 1
    assert "numpy" in report["machine"]["packages"]


def test_committed_results_meet_what_the_project_promises() -> None:
    results = Path(__file__).parents[2] / "benchmarks" / "results"
    overhead = json.loads((results / "overhead.json").read_text())["results"]
    assert overhead["around_engines"]["share_outside_engines"] < 0.05
    assert overhead["compile_table"]["milliseconds"] < 5
    assert overhead["import"]["added_seconds"] < 0.3
    ours = load_report(results / "size.json").rows[0]
    assert ours.name == "inpaintrt"
    assert int(str(ours.values["bytes"])) < 200e6
