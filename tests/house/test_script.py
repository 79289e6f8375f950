"""The page's scripts: the verdict of a formatter, a linter and TypeScript's checker on their JSDoc types."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "runtime" / "inpaintrt_server" / "ui" / "static"
DENO = Path(sys.executable).parent / "deno"
LONGEST_FILE = 400


def _deno(tmp_path: Path, command: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    settings = {"DENO_DIR": str(tmp_path / "deno"), "DENO_NO_UPDATE_CHECK": "1", "NO_COLOR": "1"}
    words = [DENO, *command.split(), "--config", ROOT / "tests" / "house" / "deno.json", *arguments]
    return subprocess.run(words, env={**os.environ, **settings}, capture_output=True, text=True, check=False)


def _scripts() -> list[Path]:
    return sorted(SCRIPTS.glob("*.js"))


@pytest.mark.parametrize("command", ["check", "lint", "fmt --check"])
def test_tool_finds_nothing(tmp_path: Path, command: str) -> None:
    result = _deno(tmp_path, command, *_scripts())
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(
    ("command", "source", "told"),
    [
        ("check", "/** @param {number} x */\nexport function f(x) {\n  return x.length;\n}\n", "TS2339"),
        ("lint", "const a = 1;\n", "no-unused-vars"),
        ("fmt --check", "export const a=1\n", "not formatted"),
    ],
)
def test_tool_would_find_something(tmp_path: Path, command: str, source: str, told: str) -> None:
    bad = tmp_path / "bad.js"
    bad.write_text(source)
    result = _deno(tmp_path, command, bad)
    assert result.returncode != 0
    assert told in result.stdout + result.stderr


def test_files_are_short() -> None:
    assert _scripts()
    assert [path.name for path in _scripts() if len(path.read_text().splitlines()) > LONGEST_FILE] == []
