"""ONNX files of converted networks."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

import onnx
import onnx_ir as ir

from inpaintrt_export.conversion.half import convert_to_half
from inpaintrt_export.conversion.networks import kept_tensors
from inpaintrt_export.tracing import EMBEDDED_WEIGHTS_LIMIT, clean_graph, save_graph

if TYPE_CHECKING:
    from pathlib import Path

    from inpaintrt.bundle import Manifest

__all__ = ["HalfNetworks", "save_beside_weights", "save_model"]


def save_model(model: ir.Model, path: Path) -> None:
    """Write a graph whose weights are not on the disk yet.

    Weights of more than 1 MB in all lie beside it in a file of the same name with `.data` appended.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    size = sum(value.const_value.nbytes for value in model.graph.initializers.values())
    ir.save(model, path, external_data=f"{path.name}.data" if size > EMBEDDED_WEIGHTS_LIMIT else None)
    save_graph(_clean(onnx.load(path, load_external_data=False)), path)


def save_beside_weights(model: ir.Model, path: Path) -> None:
    """Write a graph whose external weights, if any, lie in the same folder; they are not written again."""
    save_graph(_clean(ir.to_proto(model)), path)


def _clean(model: onnx.ModelProto) -> onnx.ModelProto:
    clean_graph(model.graph)
    return model


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
            component = self._manifest.components[name]
            model = ir.load(self._folder / component.file)
            convert_to_half(model, kept_tensors(name, component))
            save_model(model, path)
            del model
            gc.collect()  # the graph's cycles keep all weights of the bundle's own file mapped
        return path
