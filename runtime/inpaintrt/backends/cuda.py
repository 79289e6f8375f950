"""The GPU: found, named, and with errors that say what is missing."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from types import ModuleType

from inpaintrt.errors import EngineUnavailableError

__all__ = ["Gpu", "find_gpu", "gpu_target"]


@dataclass(frozen=True)
class Gpu:
    """A GPU of this machine.

    Attributes:
        index: Its number, as CUDA counts.
        name: The vendor's name.
        target: Its compute capability, e.g. "sm89".
    """

    index: int
    name: str
    target: str


def find_gpu(index: int = 0) -> Gpu:
    """Look at a GPU.

    Raises:
        EngineUnavailableError: cuda-core is not installed, or there is no driver or no such GPU.
    """
    device = _cuda_core().Device
    try:
        found = device(index)
        major, minor = found.compute_capability
        return Gpu(index, str(found.name), f"sm{major}{minor}")
    except (RuntimeError, ValueError) as error:
        raise EngineUnavailableError(
            f"there is no usable NVIDIA GPU {index} on this machine",
            received=str(error).strip(),
            expected="an NVIDIA GPU and its driver",
            hint="run `inpaintrt doctor`; the backend 'onnxruntime' needs no GPU",
        ) from error


def gpu_target(index: int = 0) -> str:
    """The compute capability of a GPU, e.g. "sm89".

    Raises:
        EngineUnavailableError: As for `find_gpu`.
    """
    return find_gpu(index).target


def _cuda_core() -> ModuleType:
    try:
        return importlib.import_module("cuda.core")
    except ImportError as error:
        raise EngineUnavailableError(
            "GPU backends need the Python package cuda-core, which cannot be imported",
            received=str(error),
            hint="pip install 'inpaintrt[cuda]', 'inpaintrt[tensorrt]' or 'inpaintrt[tensorrt-rtx]'",
        ) from error
