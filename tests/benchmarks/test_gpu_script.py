"""The script for GPUs names subcommands and options that exist."""

import re
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from inpaintrt.cli import app
from inpaintrt_bench.runners.catalogue import runner_names

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu.sh"
COMMANDS = {
    "inpaintrt export": ["export"],
    "inpaintrt build": ["build"],
    "compare --": ["bench", "compare"],
    "latency --": ["bench", "latency"],
    "coldstart --": ["bench", "coldstart"],
}


def _lines() -> list[str]:
    return SCRIPT.read_text().replace("\\\n", " ").splitlines()


@pytest.mark.parametrize("words", COMMANDS)
def test_options_exist(words: str) -> None:
    (line,) = (line for line in _lines() if words in line and not line.startswith("#"))
    common = next(line for line in _lines() if "local options=" in line) if "bench" in COMMANDS[words] else ""
    result = CliRunner().invoke(app, [*COMMANDS[words], "--help"], env={"COLUMNS": "200", "TERM": "dumb"})
    options = set(re.findall(r"(?<=[\s(])--[a-z-]+", line.partition(words)[2] + common))
    assert options
    assert [option for option in options if option not in result.output] == []


def test_runners_exist() -> None:
    named = set(re.findall(r"--runner ([a-z-]+)", SCRIPT.read_text()))
    assert len(named) == 5
    assert named <= set(runner_names("cuda"))


def test_without_a_part_it_says_what_parts_there_are() -> None:
    result = subprocess.run([SCRIPT], capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert "benchmarks/gpu.sh compare BATCH STEPS" in result.stdout
    assert "set -euo" not in result.stdout
