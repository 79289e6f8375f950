"""`inpaintrt run --lora`."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from inpaintrt import InpaintPipeline
from lora_files import save_lora
from runtime.image_tools import disc_mask, gradient, largest_difference

SIDE = 64


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with an image, a mask and a LoRA."""
    gradient(SIDE, SIDE).save(tmp_path / "image.png")
    disc_mask(SIDE, SIDE).save(tmp_path / "mask.png")
    difference = torch.randn(4, 16, 3, 3, generator=torch.Generator().manual_seed(0))
    save_lora(tmp_path / "style.safetensors", {"unet.conv_out.diff": difference})
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _run(bundle: Path, *options: str) -> subprocess.CompletedProcess[str]:
    arguments = ["--image", "image.png", "--mask", "mask.png", "--prompt", "a red balloon", "--steps", "2"]
    program = Path(sys.executable).parent / "inpaintrt"
    command: list[str | Path] = [program, "run", "--bundle", bundle, *arguments]
    return subprocess.run([*command, "-o", "out.png", *options], capture_output=True, text=True, check=False)


def test_several_loras_with_scales_are_applied_and_written_down(workplace: Path, tiny_bundle: Path) -> None:
    loras = ["style.safetensors:0.3", "style.safetensors"]
    options = [text for lora in loras for text in ("--lora", lora)]
    result = _run(tiny_bundle, "--seed", "0", *options)
    assert result.returncode == 0, result.stderr
    painted = Image.open("out.png")
    assert json.loads(painted.text["parameters"])["loras"] == loras  # type: ignore[attr-defined]
    with InpaintPipeline.from_bundle(tiny_bundle, loras=[("style.safetensors", 1.3)]) as pipe:
        expected = pipe("a red balloon", "image.png", "mask.png", num_inference_steps=2, seed=0)
    assert largest_difference(painted, expected.images[0]) <= 1
    with InpaintPipeline.from_bundle(tiny_bundle) as pipe:
        plain = pipe("a red balloon", "image.png", "mask.png", num_inference_steps=2, seed=0)
    assert largest_difference(painted, plain.images[0]) > 20


def test_a_file_that_is_missing_is_told_without_a_traceback(workplace: Path, tiny_bundle: Path) -> None:
    result = _run(tiny_bundle, "--lora", "other.safetensors:0.5")
    assert result.returncode == 1
    assert "the LoRA file cannot be read" in result.stderr
    assert "other.safetensors: No such file" in result.stderr
    assert "Traceback" not in result.stderr
