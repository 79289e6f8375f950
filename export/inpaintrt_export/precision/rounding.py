"""Half precision as a GPU has it, on a CPU: float32 operators whose results are rounded to float16.

ONNX Runtime's CPU provider does not show what half precision does: between two operators that it computes in
float32 it leaves out the rounding, and with it the overflow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx_ir as ir

from inpaintrt_export.precision.half import infer_types, may_be_half, nodes_in_full_precision, round_tensor

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["round_results"]

_HALF, _FLOAT = ir.DataType.FLOAT16, ir.DataType.FLOAT


def round_results(model: ir.Model) -> None:
    """Round every float32 tensor that would be float16 in half precision, in place.

    Raises:
        ExportError: The type of a tensor is not known, or a node has a graph of its own.
    """
    infer_types(model)
    graph = model.graph
    for value in list(_halves(graph)):
        if value.is_initializer():
            value.const_value = round_tensor(value.const_value, _FLOAT)
        else:
            _round(graph, value)


def _halves(graph: ir.Graph) -> Iterator[ir.Value]:
    full = nodes_in_full_precision(graph)
    for value in (*graph.inputs, *graph.initializers.values()):
        if value.dtype == _FLOAT and any(use.node not in full for use in value.uses()):
            yield value
    for node in graph:
        for index, value in enumerate(node.outputs):
            if value.dtype == _FLOAT and node not in full and may_be_half(node, "outputs", index):
                yield value


def _round(graph: ir.Graph, value: ir.Value) -> None:
    """Put two casts between a value and its readers; ONNX Runtime keeps casts that lose precision."""
    readers = list(value.uses())
    narrowed = ir.node("Cast", [value], {"to": int(_HALF)}, name=f"{value.name}/half")
    widened = ir.node("Cast", narrowed.outputs, {"to": int(_FLOAT)}, name=f"{value.name}/rounded")
    for cast, dtype in ((narrowed, _HALF), (widened, _FLOAT)):
        cast.outputs[0].name, cast.outputs[0].dtype = cast.name, dtype
    producer = value.producer()
    if producer is None:
        graph.insert_before(graph[0], [narrowed, widened])
    else:
        graph.insert_after(producer, [narrowed, widened])
    for node, index in readers:
        node.replace_input_with(index, widened.outputs[0])
