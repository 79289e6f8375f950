import subprocess
import sys
from pathlib import Path

import click
import pytest
import torch
from click.testing import CliRunner

from inpaintrt.bundle import Checkpoint, load_manifest
from inpaintrt.errors import SourceError
from inpaintrt_export.commands import register
from lora_files import save_lora


@pytest.fixture(scope="module")
def app() -> click.Group:
    app = click.Group()
    register(app)
    return app


def test_export_reports_the_folder_and_the_figures(app: click.Group, tmp_path: Path) -> None:
    output = tmp_path / "bundle"
    lora = save_lora(
        tmp_path / "style.safetensors", {"lora_unet_conv_in.diff": torch.full((16, 4, 3, 3), 0.01)}
    )
    options = ["--seed", "3", "--prediction-type", "v_prediction", "--lora", f"{lora}:0.5"]
    options += ["--tiny-vae", "synthetic:tiny-taesd", "--step-cache"]
    result = CliRunner().invoke(app, ["export", "synthetic:tiny", "-o", str(output), *options])
    assert result.exit_code == 0, result.output
    assert result.stdout.split() == [str(output)]
    assert "relative" in result.stderr
    assert "denoiser" in result.stderr
    assert "tiny_vae_decoder" in result.stderr
    assert "shallow_denoiser" in result.stderr
    manifest = load_manifest(output)
    assert manifest.checkpoint.revision == "seed 3"
    assert manifest.tiny_vae is not None
    assert manifest.tiny_vae.checkpoint == Checkpoint(id="synthetic:tiny-taesd", revision="seed 3")
    assert [(fused.name, fused.scale) for fused in manifest.checkpoint.loras] == [("style.safetensors", 0.5)]
    assert manifest.architecture.prediction_type == manifest.scheduler["prediction_type"] == "v_prediction"


def test_import_reports_the_folder(app: click.Group, tiny_onnx_folder: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["import-onnx", str(tiny_onnx_folder), "-o", str(tmp_path / "bundle")])
    assert result.exit_code == 0, result.output
    assert result.stdout.split() == [str(tmp_path / "bundle")]


def test_error_reaches_the_caller(app: click.Group, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["export", "no-such-folder", "-o", str(tmp_path / "bundle")])
    assert isinstance(result.exception, SourceError)


@pytest.mark.parametrize("command", ["export", "add-tiny-vae", "add-step-cache", "build", "import-onnx"])
def test_commands_have_help(app: click.Group, command: str) -> None:
    result = CliRunner().invoke(app, [command, "--help"])
    assert result.exit_code == 0
    assert "--help" in result.stdout


def test_registration_imports_no_training_framework() -> None:
    code = (
        "import sys, click; from inpaintrt_export.commands import register; register(click.Group());"
        "print([name for name in ('torch', 'diffusers', 'transformers', 'onnx') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_export_without_onnx_runtime_says_what_to_install() -> None:
    code = "import sys; sys.modules['onnxruntime'] = None; import inpaintrt_export.exporter"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "EngineUnavailableError" in result.stderr
    assert "inpaintrt[export,cpu]" in result.stderr
