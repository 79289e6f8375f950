"""Floating-point operations of a network, counted from its ONNX graph.

Counted are convolutions and matrix products, attention's among them, which is all but a few per mille of the
work of these networks. A multiplication and an addition are two operations.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod
from pathlib import Path
from typing import Any

import onnx
from onnxruntime.tools.symbolic_shape_infer import SymbolicShapeInference

__all__ = ["count_operations", "operations_of_model"]

_Shapes = Mapping[str, tuple[int, ...]]


def count_operations(path: Path, inputs: _Shapes) -> int:
    """Operations of one run of a network.

    Args:
        path: Its ONNX file; external weights are not read.
        inputs: The shape of each input.

    Raises:
        ValueError: An input is missing, or a shape cannot be inferred.
    """
    return operations_of_model(onnx.load(path, load_external_data=False), inputs)


def operations_of_model(model: onnx.ModelProto, inputs: _Shapes) -> int:
    """Operations of one run of a model; see `count_operations`."""
    _fix_inputs(model, inputs)
    _forget_external_weights(model)
    inferred = SymbolicShapeInference.infer_shapes(model)
    graph = inferred.graph
    shapes = {tensor.name: _shape(tensor) for tensor in (*graph.value_info, *graph.input, *graph.output)}
    shapes |= {weight.name: tuple(weight.dims) for weight in graph.initializer}
    return sum(_COUNTERS[node.op_type](node, shapes) for node in graph.node if node.op_type in _COUNTERS)


def _fix_inputs(model: onnx.ModelProto, inputs: _Shapes) -> None:
    for tensor in model.graph.input:
        if tensor.name not in inputs:
            raise ValueError(f"the shape of the input {tensor.name!r} is missing")
        for axis, size in zip(tensor.type.tensor_type.shape.dim, inputs[tensor.name], strict=True):
            axis.dim_value = size
    for tensor in model.graph.output:
        tensor.type.tensor_type.ClearField("shape")
    del model.graph.value_info[:]


def _forget_external_weights(model: onnx.ModelProto) -> None:
    """Make inputs of weights that lie in other files: their shapes are all that counts."""
    weights = model.graph.initializer
    external = [weight for weight in weights if weight.data_location == onnx.TensorProto.EXTERNAL]
    for weight in external:
        model.graph.input.append(
            onnx.helper.make_tensor_value_info(weight.name, weight.data_type, list(weight.dims))
        )
        weights.remove(weight)


def _shape(tensor: onnx.ValueInfoProto) -> tuple[int, ...] | None:
    axes = tensor.type.tensor_type.shape.dim
    sizes = tuple(axis.dim_value for axis in axes if axis.HasField("dim_value"))
    return sizes if len(sizes) == len(axes) else None


def _known(name: str, shapes: Mapping[str, tuple[int, ...] | None]) -> tuple[int, ...]:
    shape = shapes.get(name)
    if shape is None:
        raise ValueError(f"the shape of {name!r} cannot be inferred")
    return shape


def _convolution(node: onnx.NodeProto, shapes: Mapping[str, tuple[int, ...] | None]) -> int:
    """Each output value is a product of one filter, `[channels / groups, height, width]`, with its window."""
    _, *window = _known(node.input[1], shapes)
    return 2 * prod(_known(node.output[0], shapes)) * prod(window)


def _matrix_product(node: onnx.NodeProto, shapes: Mapping[str, tuple[int, ...] | None]) -> int:
    """Each output value is a product of a row and a column."""
    return 2 * prod(_known(node.output[0], shapes)) * _known(node.input[0], shapes)[-1]


def _general_product(node: onnx.NodeProto, shapes: Mapping[str, tuple[int, ...] | None]) -> int:
    transposed = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)
    return 2 * prod(_known(node.output[0], shapes)) * _known(node.input[0], shapes)[0 if transposed else 1]


_COUNTERS: Mapping[str, Callable[[Any, Mapping[str, tuple[int, ...] | None]], int]] = {
    "Conv": _convolution,
    "Gemm": _general_product,
    "MatMul": _matrix_product,
}
