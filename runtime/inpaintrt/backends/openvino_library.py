"""OpenVINO, or what to install."""

from __future__ import annotations

from inpaintrt.errors import EngineUnavailableError

try:
    import openvino
    from openvino import opset13
except ImportError as error:
    raise EngineUnavailableError(
        "the backend 'openvino' needs OpenVINO, which is not installed",
        received=str(error),
        hint="pip install 'inpaintrt[openvino]'",
    ) from error

__all__ = ["openvino", "opset13"]
