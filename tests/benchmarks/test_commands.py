"""The subcommands measure, print a table, and write a report that can be published."""

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from benchmarks.reports import MASKED
from inpaintrt.cli import app
from inpaintrt_bench.report.files import command_words, load_report, save_report


def _bench(*arguments: str | Path) -> Result:
    words = ["bench", *map(str, arguments)]
    return CliRunner().invoke(app, words, catch_exceptions=False)


def test_masks_of_a_large_picture(tmp_path: Path) -> None:
    output = tmp_path / "mask.json"
    sizes = ["--width", "1000", "--height", "600", "--share", "2", "--share", "30"]
    result = _bench("mask", *sizes, "--steps", "1", "--repeats", "1", "-o", output)
    assert "| 30 % |" in result.output
    report = load_report(output)
    assert report.settings == {"bundle": "demo", "width": 1000, "height": 600, "steps": 1}
    assert [row.name for row in report.rows] == ["2 %", "30 %"]
    assert report.machine.cores


def test_quality_of_settings(tmp_path: Path) -> None:
    output = tmp_path / "quality.json"
    choices = ["--sampler", "ddim", "--steps", "1", "--steps", "2", "--guidance-until", "0.5"]
    result = _bench("quality", *choices, "--cases", "1", "-o", output)
    assert "UNet evaluations" in result.output
    report = load_report(output)
    assert [row.case["steps"] for row in report.rows] == [1, 2]
    assert {row.case["guidance_stop"] for row in report.rows} == {0.5}


def test_an_unknown_installation_is_named() -> None:
    result = _bench("size", "--only", "abacus")
    assert result.exit_code == 2
    assert "abacus is none of inpaintrt, diffusers" in result.output


def test_a_share_that_no_mask_has_is_refused() -> None:
    assert _bench("mask", "--share", "79").exit_code == 2


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


@pytest.mark.parametrize(
    "arguments",
    [
        ("bench", "mask", "-o", "file.json", "--steps", "2"),
        ("bench", "mask", "--steps", "2", "--output", "file.json"),
        ("bench", "mask", "--output=file.json", "--steps", "2"),
    ],
)
def test_the_output_file_is_no_part_of_the_recorded_command(arguments: tuple[str, ...]) -> None:
    assert command_words(arguments) == ("bench", "mask", "--steps", "2")


def test_folders_of_servers_are_nobody_s_business() -> None:
    words = [
        "bench",
        "memory",
        "--server",
        "0.2.0=/home/me/bin/python",
        "--server=new=/opt/x/python3",
        "-o",
        "f",
    ]
    assert command_words(words) == ("bench", "memory", "--server", "0.2.0=python", "--server=new=python3")
    assert command_words(["--server-option=--queue=16", "/a/b"]) == ("--server-option=--queue=16", "/a/b")
