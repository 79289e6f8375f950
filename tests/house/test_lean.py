"""Three locks that keep the runtime lean, each covering the others' holes.

The import contracts see every import in our source, but not what a dependency imports; a fresh interpreter
sees that, but only for modules that are imported here; the built wheel in an empty environment shows that
nothing else is needed to paint a picture.
"""

import pkgutil
import subprocess
import sys
import venv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import inpaintrt
from inpaintrt_bench.size import package_sizes

ROOT = Path(__file__).parents[2]
FORBIDDEN = (
    *("torch", "diffusers", "transformers", "tokenizers", "huggingface_hub"),
    *("onnx", "onnxscript", "optimum", "scipy"),
)
MODULES = sorted(
    module.name for module in pkgutil.walk_packages(inpaintrt.__path__, "inpaintrt.", onerror=print)
)
MEGABYTES = 200


def test_import_contracts_hold() -> None:
    result = subprocess.run(
        [Path(sys.executable).parent / "lint-imports"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr


def test_there_are_modules_to_look_at() -> None:
    assert "inpaintrt.pipeline" in MODULES
    assert "inpaintrt.backends.onnxruntime" in MODULES


@pytest.mark.parametrize("module", ["inpaintrt", *MODULES])
def test_a_module_brings_no_training_framework(module: str) -> None:
    code = (
        f"import sys, importlib; importlib.import_module({module!r}); "
        f"print([name for name in {FORBIDDEN!r} if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "[]"


@pytest.fixture(scope="module")
def lean_environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty environment with the built wheel and its extra `cpu`; its folder of programs."""
    folder = tmp_path_factory.mktemp("lean")
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT],
        check=True,
        capture_output=True,
    )
    (wheel,) = folder.glob("*.whl")
    venv.create(folder / "venv", with_pip=True)
    programs = folder / "venv" / ("Scripts" if sys.platform == "win32" else "bin")
    subprocess.run([programs / "pip", "install", "--quiet", f"{wheel}[cpu]"], check=True, capture_output=True)
    return programs


def test_the_wheel_alone_paints_the_demo(lean_environment: Path, tmp_path: Path) -> None:
    subprocess.run([lean_environment / "inpaintrt", "demo"], cwd=tmp_path, check=True, capture_output=True)
    strip = np.asarray(Image.open(tmp_path / "inpaintrt-demo.png").convert("RGB"), np.float32)
    height = strip.shape[0]
    picture, mask, *results = (
        strip[:, left : left + height] for left in range(0, strip.shape[1], height + 8)
    )
    assert len(results) == 3
    for result in results:
        assert np.abs(result - picture)[mask > 250].mean() > 5
        assert np.abs(result - picture)[mask < 5].mean() < 2


def test_the_wheel_brings_no_training_framework(lean_environment: Path) -> None:
    listing = subprocess.run(
        [lean_environment / "pip", "list", "--format=freeze"], check=True, capture_output=True, text=True
    )
    installed = {line.partition("==")[0].lower().replace("-", "_") for line in listing.stdout.splitlines()}
    assert "onnxruntime" in installed
    assert installed.isdisjoint(FORBIDDEN)


def test_the_wheel_and_what_it_brings_stay_small(lean_environment: Path) -> None:
    (packages,) = lean_environment.parent.glob("lib/python*/site-packages")
    size = sum(package_sizes(packages).values()) / 1e6
    assert size < MEGABYTES, f"{size:.0f} MB installed, at most {MEGABYTES} expected"


def test_an_export_without_its_extra_says_which_one(lean_environment: Path, tmp_path: Path) -> None:
    result = subprocess.run(
        [lean_environment / "inpaintrt", "export", "synthetic:tiny", "-o", tmp_path / "bundle"],
        check=False,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 1
    assert "inpaintrt[export,cpu]" in result.stderr
    assert "Traceback" not in result.stderr
