"""The layout of result files: what is written can be read, and its JSON Schema agrees."""

import json
from pathlib import Path

import jsonschema_rs
import msgspec
import pytest

from inpaintrt_bench.report.files import ReportFormatError, encode_report, load_report, save_report
from inpaintrt_bench.report.schema import (
    FORMAT_VERSION,
    STAGES,
    Gpu,
    ImageComparison,
    Machine,
    Memory,
    Peak,
    Report,
    Row,
    Work,
    json_schema,
    make_series,
)

RESULTS = Path(__file__).parents[3] / "benchmarks" / "results"

MACHINE = Machine(
    processor="one",
    cores=2,
    system="Linux",
    python="3.11.7",
    packages={"numpy": "2.4.6"},
    gpus=(Gpu(name="two", memory=8_000_000_000, driver="590.1"),),
    peak=Peak(operations_per_second=1e11, dtype="float32", size=1024, library="numpy"),
)
ROWS = (
    Row(
        name="ours",
        case={"steps": 20, "batch": 1},
        values={"seconds": 1.5},
        series={"total": make_series([0.1, 0.2], warm_up=1)},
        stages={stage: make_series([0.1, 0.2]) for stage in STAGES},
        memory=Memory(peak_resident=1_000),
        work={"denoiser": Work(operations=10, runs=20)},
        picture=ImageComparison(
            reference="theirs", max_difference=1, mean_difference=0.1, psnr=None, ssim=1.0
        ),
    ),
    Row(name="theirs", status="failed", reason="not installed"),
)
REPORT = Report(
    format_version=FORMAT_VERSION,
    kind="compare",
    date="2026-01-01",
    command=("bench", "compare"),
    machine=MACHINE,
    settings={"prompt": "a red balloon", "sizes": [64, 128]},
    rows=ROWS,
)


def test_a_report_survives_writing_and_reading(tmp_path: Path) -> None:
    save_report(REPORT, tmp_path / "report.json")
    assert load_report(tmp_path / "report.json") == REPORT
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]


def test_the_committed_schema_is_that_of_the_code() -> None:
    assert json.loads((RESULTS / "schema.json").read_text()) == json_schema()


def test_the_schema_accepts_reports_and_refuses_others() -> None:
    validator = jsonschema_rs.validator_for(json_schema())
    content = json.loads(encode_report(REPORT))
    assert validator.is_valid(content)
    assert not validator.is_valid({**content, "kind": "guess"})
    assert not validator.is_valid({**content, "speed": 1})
    assert not validator.is_valid({**content, "rows": [{"status": "ok"}]})


def _reports() -> list[Path]:
    files = (path for path in RESULTS.glob("*.json") if path.name != "schema.json")
    return [path for path in files if "format_version" in json.loads(path.read_text())]


def test_committed_reports_follow_the_schema() -> None:
    validator = jsonschema_rs.validator_for(json_schema())
    for path in _reports():
        validator.validate(json.loads(path.read_text()))
        assert load_report(path).complete, path


def test_another_version_is_named(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    save_report(msgspec.structs.replace(REPORT, format_version=99), path)
    with pytest.raises(ReportFormatError, match="format_version 99"):
        load_report(path)


@pytest.mark.parametrize("content", ["", "{}", '{"format_version": 1}', "not JSON"])
def test_what_is_no_report_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "report.json"
    path.write_text(content)
    with pytest.raises(ReportFormatError, match="is not a benchmark's report"):
        load_report(path)


def test_a_missing_report_is_named(tmp_path: Path) -> None:
    with pytest.raises(ReportFormatError, match=r"absent\.json"):
        load_report(tmp_path / "absent.json")
