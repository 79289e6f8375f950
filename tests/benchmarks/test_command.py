"""The subcommands of `inpaintrt bench` are listed without loading them, and each is in its module."""

import subprocess
import sys
from typing import get_args

import click
import pytest
from click.testing import CliRunner

from inpaintrt.cli import app
from inpaintrt_bench.command import SUBCOMMANDS, bench
from inpaintrt_bench.publishing import PLOTS, TABLES
from inpaintrt_bench.report.schema import Kind

HEAVY = ("httpx", "matplotlib", "onnx", "psutil", "pynvml", "prometheus_client", "torch")


@pytest.mark.parametrize("words", [["--help"], ["bench", "--help"]])
def test_help_loads_no_measurement(words: list[str]) -> None:
    code = (
        f"import sys; from click.testing import CliRunner; from inpaintrt.cli import app\n"
        f"result = CliRunner().invoke(app, {words!r})\n"
        "assert result.exit_code == 0, result.output\n"
        f"heavy = [name for name in {HEAVY!r} if name in sys.modules]\n"
        "print([*heavy, *(name for name in sys.modules if name.startswith('inpaintrt_bench.'))])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "['inpaintrt_bench.command']"


def test_the_list_names_every_subcommand() -> None:
    output = CliRunner().invoke(app, ["bench", "--help"], env={"COLUMNS": "200"}).output
    for name, summary in SUBCOMMANDS.items():
        assert name in output
        assert summary in " ".join(output.split())


@pytest.mark.parametrize("name", sorted(SUBCOMMANDS))
def test_every_subcommand_is_in_its_module(name: str) -> None:
    with click.Context(bench) as context:
        command = bench.get_command(context, name)
    assert command is not None
    assert command.name == name
    assert command.help


def test_an_unknown_subcommand_is_named() -> None:
    result = CliRunner().invoke(app, ["bench", "guess"])
    assert result.exit_code == 2
    assert "No such command 'guess'" in result.output


def test_every_kind_of_report_has_a_subcommand_and_a_table() -> None:
    kinds = set(get_args(Kind))
    assert kinds == set(TABLES) == set(SUBCOMMANDS) - {"report"}
    assert set(PLOTS) <= kinds
