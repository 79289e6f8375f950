"""The script for GPUs names subcommands and options that exist."""

import os
import re
import subprocess
from collections.abc import Callable
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
    lines = [line.partition(words)[2] for line in _lines() if words in line and not line.startswith("#")]
    if "bench" in COMMANDS[words]:
        lines.append(next(line for line in _lines() if "local options=" in line))
    result = CliRunner().invoke(app, [*COMMANDS[words], "--help"], env={"COLUMNS": "200", "TERM": "dumb"})
    options = set(re.findall(r"(?<=[\s(])--[a-z-]+", " ".join(lines)))
    assert options
    assert [option for option in options if option not in result.output] == []


def test_runners_exist() -> None:
    named = set(re.findall(r"--runner ([a-z-]+)", SCRIPT.read_text()))
    assert len(named) == 5
    assert named <= set(runner_names("cuda"))


@pytest.fixture
def recorded(tmp_path: Path) -> Callable[..., list[str]]:
    """Run a part with an `inpaintrt` that writes its words down and exports an empty bundle."""
    program, log = tmp_path / "bin" / "inpaintrt", tmp_path / "log"
    program.parent.mkdir()
    program.write_text(f'#!/usr/bin/env bash\necho "$@" >> {log}\n')
    program.chmod(0o755)
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "bundle.json").write_text("{}")

    def run_part(*words: str, **variables: str) -> list[str]:
        log.write_text("")
        places = {"WORK": str(tmp_path), "RESULTS": str(tmp_path / "results")}
        path = f"{program.parent}:{os.environ['PATH']}"
        environment = {**os.environ, **places, **variables, "PATH": path}
        subprocess.run([SCRIPT, *words], env=environment, check=True)
        return log.read_text().replace(str(tmp_path), "WORK").splitlines()

    return run_part


def test_variants_are_built_with_and_without_fused_norms(
    recorded: Callable[..., list[str]], tmp_path: Path
) -> None:
    for _ in range(2):
        assert recorded("onnxruntime-cuda") == [
            "build WORK/bundle --backend onnxruntime-cuda --precision fp16",
            "build WORK/bundle-fused-norms --backend onnxruntime-cuda --precision fp16 --fused-norms",
        ]
        assert (tmp_path / "bundle-fused-norms" / "bundle.json").read_text() == "{}"


def test_measurements_say_in_their_name_that_norms_were_fused(recorded: Callable[..., list[str]]) -> None:
    (plain,) = recorded("compare", "4", "20")
    (fused,) = recorded("compare", "4", "20", NORMS="fused")
    assert "--bundle WORK/bundle " in plain
    assert plain.endswith("gpu-compare-batch4-steps20.json")
    assert "--bundle WORK/bundle-fused-norms " in fused
    assert fused.endswith("gpu-compare-batch4-steps20-fused-norms.json")


def test_latency_measures_both_variants(recorded: Callable[..., list[str]]) -> None:
    names = [Path(line.split()[-1]).stem for line in recorded("latency")]
    backends = ("onnxruntime-cuda-fused-norms", "onnxruntime-cuda", "tensorrt", "tensorrt-rtx")
    assert names == [f"gpu-latency-{backend}" for backend in backends]


def test_without_a_part_it_says_what_parts_there_are() -> None:
    result = subprocess.run([SCRIPT], capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert "benchmarks/gpu.sh compare BATCH STEPS" in result.stdout
    assert "set -euo" not in result.stdout
