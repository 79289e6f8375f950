"""What the doctor finds on machines with and without a GPU."""

import subprocess
import sys
from pathlib import Path

import pytest

from inpaintrt import doctor
from inpaintrt.backends import backend_names
from inpaintrt.backends.cuda import Gpu
from inpaintrt.backends.tensorrt_library import PlanLibrary
from inpaintrt.doctor import examine
from inpaintrt.errors import EngineUnavailableError

COMMAND = [sys.executable, "-c", "from inpaintrt.cli import main; main()"]
RTX_4090 = Gpu(0, "NVIDIA GeForce RTX 4090", "sm89")
H200 = Gpu(0, "NVIDIA H200", "sm90")


def test_every_backend_is_usable_or_has_a_cure() -> None:
    diagnosis = examine()
    assert [backend.name for backend in diagnosis.backends] == list(backend_names())
    for backend in diagnosis.backends:
        assert backend.usable == (backend.cure is None), backend
        assert backend.detail
    assert (diagnosis.gpu is None) == (diagnosis.gpu_detail is not None)
    assert diagnosis.backends[0].usable  # the tests run on it


def test_rtx_is_usable_on_the_gpus_that_it_knows(rtx: PlanLibrary) -> None:
    assert doctor._plans("tensorrt-rtx", RTX_4090, None) == f"tensorrt-rtx {rtx.version}, {RTX_4090.name}"
    with pytest.raises(EngineUnavailableError, match=r"(?s)does not run on NVIDIA H200 \(sm90\).*tensorrt"):
        doctor._plans("tensorrt-rtx", H200, None)


def test_without_a_gpu_the_reason_is_told(rtx: PlanLibrary) -> None:
    with pytest.raises(EngineUnavailableError, match=r"(?s)no driver.*NVIDIA's driver"):
        doctor._plans("tensorrt-rtx", None, "no driver")


@pytest.mark.parametrize(
    ("installed", "warnings"),
    [({"onnxruntime"}, 0), ({"onnxruntime-gpu"}, 0), ({"onnxruntime", "onnxruntime-gpu"}, 1)],
)
def test_two_onnxruntimes_are_one_too_many(
    monkeypatch: pytest.MonkeyPatch, installed: set[str], warnings: int
) -> None:
    monkeypatch.setattr(doctor, "_installed", lambda package: package in installed)
    assert len(examine().warnings) == warnings


def test_a_package_is_installed_or_not() -> None:
    assert doctor._installed("numpy")
    assert not doctor._installed("a-package-that-nobody-made")


def test_the_command_tells_all_of_it() -> None:
    result = subprocess.run([*COMMAND, "doctor"], capture_output=True, text=True, check=True)
    assert result.stdout.startswith("GPU: ")
    for name in backend_names():
        assert name in result.stdout


def test_inspect_shows_plans(planned_bundle: Path, rtx: PlanLibrary) -> None:
    result = subprocess.run([*COMMAND, "inspect", planned_bundle], capture_output=True, text=True, check=True)
    assert f"tensorrt-rtx {rtx.version}" in result.stdout
    assert "2 rows of 77 tokens, state 1x6x4x8x8" in result.stdout
