"""What this machine can run, and what is missing for the rest."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from inpaintrt.backends import backend_names
from inpaintrt.backends.cuda import Gpu, driver_version, find_gpu
from inpaintrt.backends.tensorrt_library import PlanBackend, load_library
from inpaintrt.bundle import load_manifest
from inpaintrt.errors import EngineUnavailableError
from inpaintrt.store import find_bundle

__all__ = ["BackendHealth", "Diagnosis", "examine"]

_CUDA = "CUDAExecutionProvider"


@dataclass(frozen=True)
class BackendHealth:
    """Whether a backend can run here.

    Attributes:
        name: The backend.
        usable: Whether it can.
        detail: Library and version, or what is missing.
        cure: What to do about it; None where nothing is missing.
    """

    name: str
    usable: bool
    detail: str
    cure: str | None = None


@dataclass(frozen=True)
class Diagnosis:
    """What was found.

    Attributes:
        gpu: The first GPU, or None.
        driver: The CUDA version that the driver supports, or None.
        gpu_detail: Why there is no GPU; None where there is one.
        backends: The backends, in the order of their names.
        warnings: What will give trouble.
    """

    gpu: Gpu | None
    driver: str | None
    gpu_detail: str | None
    backends: tuple[BackendHealth, ...]
    warnings: tuple[str, ...]


def examine() -> Diagnosis:
    """Look at GPU, driver and libraries; ONNX Runtime's CUDA provider loads the demo's text encoder."""
    gpu, driver, detail = _examine_gpu()
    checks: dict[str, Callable[[], str]] = {
        "onnxruntime": _onnxruntime,
        "onnxruntime-cuda": lambda: _onnxruntime_cuda(gpu, detail),
        "openvino": _openvino,
        "tensorrt": lambda: _plans("tensorrt", gpu, detail),
        "tensorrt-rtx": lambda: _plans("tensorrt-rtx", gpu, detail),
    }
    backends = tuple(_examine_backend(name, checks[name]) for name in backend_names())
    return Diagnosis(gpu, driver, detail, backends, _warnings())


def _examine_gpu() -> tuple[Gpu | None, str | None, str | None]:
    try:
        return find_gpu(), driver_version(), None
    except EngineUnavailableError as error:
        return None, None, f"{error.what}: {error.received}"


def _examine_backend(name: str, check: Callable[[], str]) -> BackendHealth:
    try:
        return BackendHealth(name, usable=True, detail=check())
    except EngineUnavailableError as error:
        return BackendHealth(name, usable=False, detail=error.what, cure=error.hint)


def _onnxruntime() -> str:
    module = importlib.import_module("inpaintrt.backends.onnxruntime")
    return f"onnxruntime {module.onnxruntime.__version__}, {os.cpu_count()} processors"


def _openvino() -> str:
    devices: str = importlib.import_module("inpaintrt.backends.openvino").describe_devices()
    return devices


def _onnxruntime_cuda(gpu: Gpu | None, detail: str | None) -> str:
    module = importlib.import_module("inpaintrt.backends.onnxruntime")
    if _CUDA not in module.onnxruntime.get_available_providers():
        raise EngineUnavailableError(
            f"onnxruntime {module.onnxruntime.__version__} has no CUDA provider",
            hint="pip uninstall onnxruntime, then pip install 'inpaintrt[cuda]'; never both",
        )
    found = _need_gpu(gpu, detail)
    demo = find_bundle("demo")
    network = load_manifest(demo).exported["text_encoder"].file
    importlib.import_module("inpaintrt.backends.onnxruntime_cuda").check_start(demo / network, found.index)
    return f"onnxruntime-gpu {module.onnxruntime.__version__}, {found.name}"


def _plans(backend: PlanBackend, gpu: Gpu | None, detail: str | None) -> str:
    library = load_library(backend)
    found = _need_gpu(gpu, detail)
    if library.names_targets and found.target.upper() not in library.module.ComputeCapability.__members__:
        raise EngineUnavailableError(
            f"{backend} {library.version} does not run on {found.name} ({found.target})",
            hint="use the backend 'tensorrt' or 'onnxruntime-cuda' on this GPU",
        )
    return f"{backend} {library.version}, {found.name}"


def _need_gpu(gpu: Gpu | None, detail: str | None) -> Gpu:
    if gpu is None:
        raise EngineUnavailableError(
            detail or "there is no GPU", hint="install NVIDIA's driver, or use the backend 'onnxruntime'"
        )
    return gpu


def _warnings() -> tuple[str, ...]:
    if _installed("onnxruntime") and _installed("onnxruntime-gpu"):
        return (
            "onnxruntime and onnxruntime-gpu are both installed and spoil each other: uninstall both, "
            "then install 'inpaintrt[cpu]' or 'inpaintrt[cuda]'",
        )
    return ()


def _installed(package: str) -> bool:
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True
