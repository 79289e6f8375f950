"""Tables and plots are made of results, and a difference between the two is found."""

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result

from benchmarks.reports import COMPARED, MASKED, QUALITY, make_report
from inpaintrt.cli import app
from inpaintrt_bench.publishing import (
    TABLES,
    BlockError,
    Publication,
    StaleError,
    block_names,
    check_publication,
    fill_blocks,
    load_results,
    publish,
    render_block,
)
from inpaintrt_bench.report.files import ReportFormatError, save_report
from inpaintrt_bench.report.schema import Machine

DOCUMENT = """# Speed

<!-- bench:compare -->
<!-- /bench -->

Kept.

<!-- bench:compare:stages -->
old
<!-- /bench -->
<!-- bench:mask:origin -->old<!-- /bench -->
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for report in (COMPARED, MASKED, QUALITY):
        save_report(report, tmp_path / f"{report.kind}.json")
    (tmp_path / "schema.json").write_text('{"$defs": {}}')
    (tmp_path / "notes.json").write_text("not JSON")
    return tmp_path


@pytest.fixture
def publication(folder: Path) -> Publication:
    document = folder / "README.md"
    document.write_text(DOCUMENT)
    return Publication([document], folder / "plots")


def test_blocks_are_filled_and_everything_else_is_kept() -> None:
    assert block_names(DOCUMENT) == ["compare", "compare:stages", "mask:origin"]
    filled = fill_blocks(DOCUMENT, str.upper)
    assert filled == (
        "# Speed\n\n<!-- bench:compare -->\nCOMPARE\n<!-- /bench -->\n\nKept.\n\n"
        "<!-- bench:compare:stages -->\nCOMPARE:STAGES\n<!-- /bench -->\n"
        "<!-- bench:mask:origin -->\nMASK:ORIGIN\n<!-- /bench -->\n"
    )
    assert fill_blocks(filled, str.upper) == filled


@pytest.mark.parametrize(
    "text",
    [
        "<!-- bench:a -->\nno end",
        "no start <!-- /bench -->",
        "<!-- bench:a --><!-- bench:b --><!-- /bench --><!-- /bench -->",
    ],
)
def test_a_marker_without_a_partner_is_an_error(text: str) -> None:
    with pytest.raises(BlockError, match="do not pair up"):
        fill_blocks(text, str.upper)


def test_results_are_published_and_pass_the_check(folder: Path, publication: Publication) -> None:
    results = load_results(folder)
    assert sorted(results.reports) == ["compare", "mask", "quality"]
    written = publish(results, publication)
    assert sorted(path.name for path in written) == [
        "README.md",
        "compare-latency.png",
        "compare-stages.png",
        "mask-mask.png",
        "quality-pareto.png",
    ]
    (document,) = publication.documents
    assert TABLES["compare"](COMPARED) in document.read_text()
    check_publication(results, publication)
    assert document not in publish(results, publication)


def test_an_edited_table_is_found(folder: Path, publication: Publication) -> None:
    results = load_results(folder)
    publish(results, publication)
    (document,) = publication.documents
    document.write_text(document.read_text().replace("2.00 s", "1.00 s"))
    with pytest.raises(StaleError, match=r"README\.md\n"):
        check_publication(results, publication)


def test_plots_of_other_data_are_found(folder: Path, publication: Publication) -> None:
    publish(load_results(folder), publication)
    save_report(msgspec.structs.replace(QUALITY, date="2026-01-02"), folder / "quality.json")
    with pytest.raises(StaleError, match=r"received: \S*quality-pareto\.png\n"):
        check_publication(load_results(folder), publication)
    (publication.plots / "quality-pareto.png").unlink()
    with pytest.raises(StaleError, match="quality-pareto"):
        check_publication(load_results(folder), publication)


def test_a_report_or_a_table_that_does_not_exist_is_named(folder: Path) -> None:
    results = load_results(folder)
    with pytest.raises(BlockError, match="compare, mask, quality"):
        render_block(results, "absent")
    with pytest.raises(BlockError, match="compare, compare:stages, compare:work, compare:origin"):
        render_block(results, "compare:colors")


def test_a_report_of_another_version_stops_the_work(folder: Path) -> None:
    save_report(msgspec.structs.replace(MASKED, format_version=99), folder / "mask.json")
    with pytest.raises(ReportFormatError, match="format_version 99"):
        load_results(folder)


def test_the_origin_tells_machine_command_and_versions(folder: Path) -> None:
    machine = Machine(
        processor="AMD EPYC", cores=2, system="Linux", python="3.11.7", packages={"numpy": "2.4.6"}
    )
    report = msgspec.structs.replace(
        make_report("mask", []), machine=machine, complete=False, command=("bench", "mask", "--steps", "2")
    )
    save_report(report, folder / "mask.json")
    assert render_block(load_results(folder), "mask:origin") == (
        "Measured on 2026-01-01 with `inpaintrt bench mask --steps 2` on 2 cores of AMD EPYC. "
        "Python 3.11.7, numpy 2.4.6. The measurement was cut short."
    )


def _bench(*arguments: str | Path) -> Result:
    words = ["bench", *map(str, arguments)]
    return CliRunner().invoke(app, words, catch_exceptions=False)


def test_documents_are_rebuilt_and_checked(tmp_path: Path) -> None:
    document, plots = tmp_path / "README.md", tmp_path / "plots"
    document.write_text("<!-- bench:mask -->\n<!-- /bench -->\n")
    save_report(MASKED, tmp_path / "mask.json")
    places: list[str | Path] = [tmp_path, "--document", document, "--plots", plots]
    result = _bench("report", *places)
    assert result.output.split() == [str(document), str(plots / "mask-mask.png")]
    assert "| 60 % |" in document.read_text()
    assert _bench("report", *places, "--check").exit_code == 0
    document.write_text(document.read_text().replace("60 %", "61 %"))
    result = CliRunner().invoke(app, ["bench", "report", *map(str, places), "--check"])
    assert result.exit_code == 1
    assert str(document) in str(result.exception)


def test_plots_without_matplotlib_name_the_extra(tmp_path: Path) -> None:
    save_report(MASKED, tmp_path / "mask.json")
    (tmp_path / "README.md").write_text("nothing")
    code = (
        "import sys; sys.modules['matplotlib'] = None; from inpaintrt.cli import main; "
        "sys.argv[1:] = ['bench', 'report', '.', '--document', 'README.md']; main()"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert result.returncode == 1
    assert "this command needs matplotlib" in result.stderr
    assert "pip install 'inpaintrt[bench]'" in result.stderr
