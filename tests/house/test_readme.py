"""What README tells people to do works, and what it points to exists."""

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image

from inpaintrt.cli import app
from inpaintrt_bench.publishing import Publication, check_publication, load_results
from inpaintrt_demo.commands import demo

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def _blocks(document: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", document.read_text(), re.MULTILINE | re.DOTALL)


def test_python_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for block in _blocks(ROOT / "README.md", "python"):
        exec(block, names)  # the examples share their variables, as a reader's session would
    for name in ("painted.png", "halfway.png"):
        with Image.open(tmp_path / name) as image:
            assert image.size == (128, 128)


def _invocations() -> list[str]:
    lines = [
        line for document in DOCUMENTS for block in _blocks(document, "bash") for line in block.splitlines()
    ]
    found = [re.search(r"(?:^|\s|/)(inpaintrt(?:_demo)? (?:[a-z-]+ )?[^&|#]*)", line) for line in lines]
    return sorted({match.group(1).strip() for match in found if match})


@pytest.mark.parametrize("invocation", _invocations())
def test_commands_and_their_options_exist(invocation: str) -> None:
    program, *words = invocation.split()
    depth = 2 if words[0] == "bench" else 1
    command = {"inpaintrt": app, "inpaintrt_demo": demo}[program]
    result = CliRunner().invoke(command, [*words[:depth], "--help"], env={"COLUMNS": "200", "TERM": "dumb"})
    assert result.exit_code == 0, result.output
    for option in re.findall(r"(?<=\s)--[a-z-]+", invocation):
        assert option in result.output


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_to_files(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", document.read_text()):
        if not target.startswith("http"):
            assert (document.parent / target).exists(), target


def test_the_demo_s_figures_are_those_of_its_report() -> None:
    report = json.loads((ROOT / "demo" / "checkpoint" / "report.json").read_text())
    figures = [
        f"found in the mask | {report['found']:.0%} |",
        f"cuts through another object | {report['found_when_cut']:.0%} |",
        f"drawn by a brush | {report['found_under_strokes']:.0%} |",
        f"at guidance 1 | {report['found_without_guidance']:.0%} |",
        f"the colour of the case | {report['color_when_open']:.0%} |",
        f"in the negative prompt | {report['color_when_negated']:.0%} |",
        f"| {report['vae_psnr']:.1f} dB |",
        f"relative to the original's | {report['seam']:.2f} |",
        f"| {report['seam_after_vae']:.2f} |",
        f"right on {report['classifier_accuracy']:.1%}",
    ]
    text = (ROOT / "README.md").read_text().replace(" %", "%")
    assert [figure for figure in figures if figure not in text] == []


def test_tables_and_plots_are_those_of_the_committed_data() -> None:
    results = load_results(ROOT / "benchmarks" / "results")
    assert {"overhead", "size"} <= set(results.reports)
    documents = [ROOT / "README.md", ROOT / "docs" / "benchmarks" / "README.md"]
    check_publication(results, Publication(documents, ROOT / "docs" / "benchmarks"))


def test_ci_runs_the_test_command_of_the_readme() -> None:
    (command,) = (line for line in (ROOT / "README.md").read_text().splitlines() if "-m pytest" in line)
    assert command.startswith("python3 -m venv .venv && .venv/bin/pip install -c requirements.lock -e")
    assert "grep -m 1 -- '-m pytest' README.md" in (ROOT / ".ci" / "run").read_text()
