"""ONNX files of graphs that were changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
import onnx_ir as ir

from inpaintrt_export.tracing import EMBEDDED_WEIGHTS_LIMIT, clean_graph, save_graph

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["find_files", "save_beside_weights", "save_model"]


def save_model(model: ir.Model, path: Path) -> None:
    """Write a graph whose weights are not on the disk yet.

    Weights of more than 1 MB in all lie beside it in a file of the same name with `.data` appended.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    size = sum(value.const_value.nbytes for value in model.graph.initializers.values())
    ir.save(model, path, external_data=f"{path.name}.data" if size > EMBEDDED_WEIGHTS_LIMIT else None)
    save_graph(_clean(onnx.load(path, load_external_data=False)), path)


def find_files(folder: Path, file: str) -> tuple[str, ...]:
    """An ONNX file, and that of its own external weights if there is one, relative to a bundle's folder."""
    paths = sorted((folder / file).parent.glob(f"{(folder / file).name}*"))
    return tuple(path.relative_to(folder).as_posix() for path in paths)


def save_beside_weights(model: ir.Model, path: Path) -> None:
    """Write a graph whose external weights, if any, lie in the same folder; they are not written again."""
    save_graph(_clean(ir.to_proto(model)), path)


def _clean(model: onnx.ModelProto) -> onnx.ModelProto:
    clean_graph(model.graph)
    return model
