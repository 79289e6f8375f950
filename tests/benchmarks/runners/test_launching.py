"""Environments of runners: made once, layered where asked, and not left half done."""

import subprocess
import sys
from pathlib import Path

import pytest

from inpaintrt_bench.runners.catalogue import Environment
from inpaintrt_bench.runners.launching import make_environment
from inpaintrt_bench.runners.process import RunnerError


def _package(folder: Path) -> Path:
    """A package without dependencies."""
    folder.mkdir()
    (folder / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
        '[project]\nname = "only-here"\nversion = "1"\n'
        '[tool.hatch.build.targets.wheel]\npackages = ["only_here"]\n'
    )
    (folder / "only_here").mkdir()
    (folder / "only_here" / "__init__.py").write_text("answer = 42\n")
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, folder],
        check=True,
        capture_output=True,
    )
    (wheel,) = folder.glob("*.whl")
    return wheel


def _imports(python: Path, module: str) -> bool:
    return (
        subprocess.run([python, "-c", f"import {module}"], check=False, capture_output=True).returncode == 0
    )


def test_an_environment_is_made_once(tmp_path: Path) -> None:
    environment = Environment(name="small", requirements=(str(_package(tmp_path / "package")),), on_top=True)
    told: list[str] = []
    python = make_environment(environment, tmp_path, told.append)
    assert make_environment(environment, tmp_path, told.append) == python
    assert len(told) == 1
    assert _imports(python, "only_here")
    assert _imports(python, "inpaintrt.pipeline, inpaintrt_bench")


def test_other_requirements_are_another_environment() -> None:
    one = Environment(name="small", requirements=("numpy<2",))
    assert one.key != Environment(name="small", requirements=("numpy<3",)).key
    assert one.key != Environment(name="small", requirements=("numpy<2",), on_top=True).key


def test_what_pip_cannot_install_is_named_and_leaves_nothing(tmp_path: Path) -> None:
    environment = Environment(name="broken", requirements=(str(tmp_path / "no-such.whl"),))
    with pytest.raises(RunnerError, match="pip could not install") as caught:
        make_environment(environment, tmp_path)
    assert "no-such" in str(caught.value.received)
    assert list(tmp_path.iterdir()) == []
