"""Three locks that keep the runtime lean, each covering the others' holes.

The import contracts see every import in our source, but not what a dependency imports; a fresh interpreter
sees that, but only for modules that are imported here; the built wheel in an empty environment shows that
nothing else is needed to paint an image.
"""

import pkgutil
import subprocess
import sys
import venv
from collections.abc import Mapping
from importlib.metadata import requires
from pathlib import Path

import numpy as np
import pytest
from packaging.requirements import Requirement
from PIL import Image

import inpaintrt
from inpaintrt_bench.measurements.size import package_sizes
from inpaintrt_bench.publishing import load_results

ROOT = Path(__file__).parents[2]
FORBIDDEN = (
    *("torch", "diffusers", "transformers", "tokenizers", "huggingface_hub"),
    *("onnx", "onnxscript", "optimum", "scipy"),
)
MODULES = sorted(
    module.name for module in pkgutil.walk_packages(inpaintrt.__path__, "inpaintrt.", onerror=print)
)
LOCK = ROOT / "requirements.lock"
NOT_OURS_TO_CHOOSE = ("numpy", "pillow", "onnxruntime")
MEGABYTES_OF_OURS = 38
SHARE_OF_DIFFUSERS = 0.2


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
    subprocess.run(
        [programs / "pip", "install", "--quiet", "--constraint", LOCK, f"{wheel}[cpu]"],
        check=True,
        capture_output=True,
    )
    return programs


def test_the_wheel_alone_paints_the_demo(lean_environment: Path, tmp_path: Path) -> None:
    subprocess.run([lean_environment / "inpaintrt", "demo"], cwd=tmp_path, check=True, capture_output=True)
    strip = np.asarray(Image.open(tmp_path / "inpaintrt-demo.png").convert("RGB"), np.float32)
    height = strip.shape[0]
    image, mask, *results = (strip[:, left : left + height] for left in range(0, strip.shape[1], height + 8))
    assert len(results) == 3
    for result in results:
        assert np.abs(result - image)[mask > 250].mean() > 5
        assert np.abs(result - image)[mask < 5].mean() < 2


def test_the_wheel_brings_no_training_framework(lean_environment: Path) -> None:
    listing = subprocess.run(
        [lean_environment / "pip", "list", "--format=freeze"], check=True, capture_output=True, text=True
    )
    installed = {line.partition("==")[0].lower().replace("-", "_") for line in listing.stdout.splitlines()}
    assert "onnxruntime" in installed
    assert installed.isdisjoint(FORBIDDEN)


@pytest.fixture(scope="module")
def sizes(lean_environment: Path) -> Mapping[str, int]:
    """Bytes of each package in that environment."""
    (packages,) = lean_environment.parent.glob("lib/python*/site-packages")
    return {name.lower(): size for name, size in package_sizes(packages).items()}


def test_what_we_chose_stays_small(sizes: Mapping[str, int]) -> None:
    """The wheel and its dependencies beside NumPy, Pillow and the engine library (with what that needs)."""
    libraries = {*NOT_OURS_TO_CHOOSE, *_needed_by("onnxruntime")}
    chosen = {name: size for name, size in sizes.items() if name not in libraries}
    assert {"inpaintrt", "click", "msgspec", "rich"} <= chosen.keys()
    size = sum(chosen.values()) / 1e6
    assert size < MEGABYTES_OF_OURS, f"{size:.1f} MB, at most {MEGABYTES_OF_OURS} expected: {chosen}"


def _needed_by(package: str) -> set[str]:
    return {Requirement(text).name.lower() for text in requires(package) or ()}


def test_the_whole_installation_stays_small_beside_diffusers(sizes: Mapping[str, int]) -> None:
    results = load_results(ROOT / "benchmarks" / "results").reports["size"]
    (diffusers,) = (row.values for row in results.rows if row.name == "diffusers")
    total = diffusers["bytes"]
    assert isinstance(total, int)
    share = sum(sizes.values()) / total
    assert share < SHARE_OF_DIFFUSERS, f"{share:.1%} of what diffusers installs"


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
