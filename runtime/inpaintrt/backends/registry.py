"""Which backends there are, and how one is opened. The backend asked for is the backend used, or an error."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from inpaintrt.backends.engine import Engine
from inpaintrt.bundle import Component
from inpaintrt.errors import EngineUnavailableError

__all__ = ["DEFAULT_BACKEND", "backend_names", "open_engine"]

DEFAULT_BACKEND = "onnxruntime"

# Imported only when asked for: each module brings the library that it is named after.
_BACKENDS = {"onnxruntime": "inpaintrt.backends.onnxruntime"}


def backend_names() -> tuple[str, ...]:
    """The backends that `open_engine` knows."""
    return tuple(sorted(_BACKENDS))


def open_engine(
    backend: str, folder: Path, component: Component, options: Mapping[str, Any] | None = None
) -> Engine:
    """Load one component of a bundle.

    Args:
        backend: One of `backend_names()`.
        folder: The bundle.
        component: Its description in the manifest.
        options: What the backend lets its users set, by name.

    Raises:
        EngineUnavailableError: The backend is unknown, lacks its library, or cannot load the network.
    """
    if backend not in _BACKENDS:
        raise EngineUnavailableError(
            "there is no such backend", received=repr(backend), expected=", ".join(backend_names())
        )
    module = importlib.import_module(_BACKENDS[backend])
    engine: Engine = module.open_engine(folder, component, options or {})
    return engine
