import subprocess
import sys
from pathlib import Path

from click.testing import CliRunner
from PIL import Image

from inpaintrt_demo.commands import demo


def test_the_scene_that_the_runtime_ships_is_drawn(tmp_path: Path) -> None:
    result = CliRunner().invoke(demo, ["assets", "-o", str(tmp_path)])
    assert result.exit_code == 0, result.output
    shipped = Path(__file__).parents[2] / "runtime" / "inpaintrt" / "demo_assets"
    for name in ("input.png", "mask.png"):
        with Image.open(tmp_path / name) as drawn, Image.open(shipped / name) as committed:
            assert drawn.tobytes() == committed.tobytes()
    assert (tmp_path / "prompts.json").read_text() == (shipped / "prompts.json").read_text()


def test_an_error_of_ours_is_told_without_a_traceback(tmp_path: Path) -> None:
    words = ["samples", str(tmp_path / "missing"), "-o", str(tmp_path / "sheet.png")]
    result = subprocess.run(
        [sys.executable, "-m", "inpaintrt_demo", *words], capture_output=True, text=True, check=False
    )
    assert result.returncode == 1
    assert "error: there is no such bundle" in result.stderr
    assert "Traceback" not in result.stderr


def test_the_module_is_a_command_with_help() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "inpaintrt_demo", "--help"], capture_output=True, text=True, check=True
    )
    assert "Usage: python -m inpaintrt_demo" in result.stdout
    assert "train-classifier" in result.stdout
