"""`inpaintrt build`, as a user runs it."""

import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bundles import builds_for
from inpaintrt.backends.tensorrt_library import PlanLibrary
from inpaintrt.bundle import load_manifest, verify_files

COMMAND = [sys.executable, "-c", "from inpaintrt.cli import main; main()", "build"]
OPTIONS = ["--backend", "tensorrt-rtx", "--max-batch", "1"]


def _run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, check=False)


def test_plans_that_are_there_are_told(planned_bundle: Path) -> None:
    result = _run(planned_bundle, *OPTIONS, "--target", "sm89")
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("was there already, for sm89") == 4


def test_an_error_says_what_to_do(tiny_half_bundle: Path, rtx: PlanLibrary) -> None:
    result = _run(tiny_half_bundle, *OPTIONS, "--precision", "fp32")
    assert result.returncode == 1
    assert "what to do: export the checkpoint with --precision fp32" in result.stderr
    assert "Traceback" not in result.stderr


def test_variants_are_told_with_what_is_fused(tiny_half_bundle: Path, tmp_path: Path) -> None:
    bundle = shutil.copytree(tiny_half_bundle, tmp_path / "bundle")
    first, second = (_run(bundle, "--backend", "onnxruntime-cuda", "--fused-norms") for _ in range(2))
    assert first.returncode == 0, first.stderr
    fused = "fp16, 8 x MultiHeadAttention, 21 x GroupNorm\n"
    assert re.fullmatch(rf"denoiser/onnxruntime-cuda\.onnx [0-9.]+ MB, {fused}", first.stdout)
    assert second.stdout == f"denoiser/onnxruntime-cuda.onnx was there already, {fused}"


def test_what_became_of_a_float32_bundle_is_shown(tiny_bundle: Path, tmp_path: Path) -> None:
    bundle = shutil.copytree(tiny_bundle, tmp_path / "bundle")
    assert _run(bundle, "--backend", "onnxruntime-cuda").returncode == 0
    command = [*COMMAND[:-1], "inspect", str(bundle)]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert re.search(r"denoiser .*onnxruntime-cuda .*fp16 .*8 x MultiHeadAttention .*e-0", shown)
    assert re.search(r"text_encoder .*onnxruntime-cuda .*fp16 .* - ", shown)
    assert "conversions, compared with the bundle's own networks" in shown
    assert re.search(r"vae_decoder .*fp16 .*yes .*latent_sample 1x4x9x7 .*e-0", shown)


@pytest.mark.parametrize(
    ("backend", "option"),
    [
        ("onnxruntime-cuda", "--target=sm89"),
        ("onnxruntime-cuda", "--fresh"),
        ("onnxruntime-cuda", "--lora=style.safetensors"),
        ("tensorrt-rtx", "--fused-norms"),
    ],
)
def test_an_option_of_other_backends_is_refused(tiny_half_bundle: Path, backend: str, option: str) -> None:
    result = _run(tiny_half_bundle, "--backend", backend, option)
    assert result.returncode == 1
    assert f"received: {option.partition('=')[0]}" in result.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="a console's Ctrl-C cannot be sent to a child there")
def test_ctrl_c_leaves_a_whole_bundle(tiny_half_bundle: Path, rtx: PlanLibrary, tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(tiny_half_bundle, tmp_path / "bundle"))
    command = [*COMMAND, str(bundle), *OPTIONS]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None and not list(bundle.glob("plans/**/text_encoder*.plan")):
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        errors = process.communicate()[1]
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    manifest = load_manifest(bundle)
    verify_files(manifest, bundle)
    assert len(builds_for(manifest, "tensorrt-rtx")) < 4
    assert not list(bundle.glob("plans/**/.*"))
