"""Which backends there are, and how one is opened. The backend asked for is the backend used, or an error."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from inpaintrt.backends.engine import Engine
from inpaintrt.bundle import Build, Manifest
from inpaintrt.errors import EngineUnavailableError
from inpaintrt.lora import Lora

__all__ = ["DEFAULT_BACKEND", "backend_names", "open_engine", "open_engines"]

DEFAULT_BACKEND = "onnxruntime"

# Imported only when asked for: each module brings the library that it is named after.
_BACKENDS = {
    "onnxruntime": "inpaintrt.backends.onnxruntime",
    "onnxruntime-cuda": "inpaintrt.backends.onnxruntime_cuda",
    "openvino": "inpaintrt.backends.openvino",
    "tensorrt": "inpaintrt.backends.tensorrt",
    "tensorrt-rtx": "inpaintrt.backends.tensorrt",
}


def backend_names() -> tuple[str, ...]:
    """The backends that `open_engine` knows."""
    return tuple(sorted(_BACKENDS))


def open_engine(backend: str, folder: Path, build: Build, options: Mapping[str, Any] | None = None) -> Engine:
    """Load one component of a bundle, with a backend whose engines share nothing.

    Args:
        backend: "onnxruntime" or "openvino".
        folder: The bundle.
        build: Its description in the manifest.
        options: What the backend lets its users set, by name.

    Raises:
        EngineUnavailableError: The backend is unknown, lacks its library, or cannot load the network.
    """
    engine: Engine = _module(backend).open_engine(folder, build, options or {})
    return engine


def open_engines(
    backend: str,
    folder: Path,
    manifest: Manifest,
    options: Mapping[str, Any] | None = None,
    loras: Sequence[Lora] = (),
) -> dict[str, Engine]:
    """Load all components of a bundle; on a GPU they share the device, its stream and scratch memory.

    Args:
        backend: One of `backend_names()`.
        folder: The bundle.
        manifest: Its manifest.
        options: What the backend lets its users set, by name.
        loras: What changes the weights, in the order in which it is applied.

    Raises:
        EngineUnavailableError: The backend is unknown, lacks its library or device, or cannot load a network.
        LoraError: A LoRA does not fit the networks.
        PlanError: The bundle has no plan with these LoRAs that the library and the GPU can run.
        ParameterError: An option is unknown or out of range.
    """
    module = _module(backend)
    if not hasattr(module, "open_engines"):
        return {
            name: open_engine(backend, folder, build, options) for name, build in manifest.exported.items()
        }
    engines: dict[str, Engine] = module.open_engines(backend, folder, manifest, options or {}, loras)
    return engines


def _module(backend: str) -> ModuleType:
    if backend not in _BACKENDS:
        raise EngineUnavailableError(
            "there is no such backend", received=repr(backend), expected=", ".join(backend_names())
        )
    return importlib.import_module(_BACKENDS[backend])
