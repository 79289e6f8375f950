"""ONNX files of a bundle's networks in half precision."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

import onnx_ir as ir

from inpaintrt_export.graphs.files import save_model
from inpaintrt_export.precision.conversions import kept_tensors
from inpaintrt_export.precision.half import convert_to_half

if TYPE_CHECKING:
    from pathlib import Path

    from inpaintrt.bundle import Manifest

__all__ = ["HalfNetworks"]


class HalfNetworks:
    """The networks of a float32 bundle in half precision, each made when it is first asked for.

    Args:
        folder: The bundle.
        manifest: Its manifest.
        scratch: The folder that they are written to.
    """

    def __init__(self, folder: Path, manifest: Manifest, scratch: Path) -> None:
        self._folder = folder
        self._manifest = manifest
        self._scratch = scratch

    def path(self, name: str) -> Path:
        """The ONNX file of a component in half precision.

        Raises:
            ExportError: Its graph cannot be converted.
        """
        path = self._scratch / name / "model.onnx"
        if not path.is_file():
            exported = self._manifest.exported[name]
            model = ir.load(self._folder / exported.file)
            convert_to_half(model, kept_tensors(exported))
            save_model(model, path)
            del model
            gc.collect()  # the graph's cycles keep all weights of the bundle's own file mapped
        return path
