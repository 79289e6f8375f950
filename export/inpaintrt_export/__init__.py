"""Export of Stable Diffusion checkpoints to bundles."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from inpaintrt_export.exporter import export_bundle
    from inpaintrt_export.onnx_import import import_onnx
    from inpaintrt_export.step_cache import add_step_cache
    from inpaintrt_export.tiny_vae import add_tiny_vae

__all__ = ["add_step_cache", "add_tiny_vae", "export_bundle", "import_onnx"]


def __getattr__(name: str) -> object:
    # PyTorch takes seconds to import, and `inpaintrt --help` must not wait for it.
    match name:
        case "export_bundle":
            from inpaintrt_export.exporter import export_bundle

            return export_bundle
        case "import_onnx":
            from inpaintrt_export.onnx_import import import_onnx

            return import_onnx
        case "add_tiny_vae":
            from inpaintrt_export.tiny_vae import add_tiny_vae

            return add_tiny_vae
        case "add_step_cache":
            from inpaintrt_export.step_cache import add_step_cache

            return add_step_cache
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
