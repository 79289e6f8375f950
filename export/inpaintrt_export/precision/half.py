"""Half precision for an ONNX graph, with the same result as an export in half precision.

Everything floating becomes float16, except what PyTorch's half networks keep in float32 as well: the
sinusoids of the timestep, for which float16 is too coarse, and the step's arithmetic around the UNet.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import onnx
import onnx_ir as ir
from onnx_ir.passes.common import LiftConstantsToInitializersPass, ShapeInferencePass

from inpaintrt.errors import ExportError
from inpaintrt_export.step_graph import STEP_PREFIX

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

__all__ = [
    "convert_to_half",
    "infer_types",
    "may_be_half",
    "nodes_in_full_precision",
    "round_tensor",
]

_HALF, _FLOAT = ir.DataType.FLOAT16, ir.DataType.FLOAT
_LARGEST = float(np.finfo(np.float16).max)
_MAX_NAMES = 5
_TYPE_BLIND = ("Cast", "Shape", "Size")  # take any type for any result


def convert_to_half(model: ir.Model, kept: Collection[str]) -> None:
    """Make a float32 graph compute in half precision, in place.

    Constants beyond float16's range, such as the -3.4e38 of an attention mask, become its largest number, as
    in PyTorch. Weights are converted while they are written, one after the other.

    Args:
        model: The graph; weights may be external.
        kept: Names of the inputs and outputs that stay float32.

    Raises:
        ExportError: The type of a tensor is not known, or a node has a graph of its own.
    """
    infer_types(model)
    _Conversion(model.graph, kept).run()


def infer_types(model: ir.Model) -> None:
    """Make constants initializers, and find out the type of every tensor.

    Raises:
        ExportError: The type of a tensor is not known, or a node has a graph of its own.
    """
    LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    ShapeInferencePass()(model)
    graph = model.graph
    untyped = [value.name for node in graph for value in node.outputs if value.name and value.dtype is None]
    nested = [
        f"{node.name} ({node.op_type})"
        for node in graph
        for attribute in node.attributes.values()
        if attribute.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)
    ]
    if untyped or nested:
        raise ExportError(
            "the graph cannot be converted to half precision",
            received="tensors of unknown type, or nodes with graphs of their own: "
            + ", ".join([*nested, *untyped][:_MAX_NAMES]),
            hint="use --precision fp32, or export the checkpoint with --precision fp16",
        )


class _Conversion:
    """One graph's conversion: first the types of all tensors, then the edges where two types meet."""

    def __init__(self, graph: ir.Graph, kept: Collection[str]) -> None:
        self._graph = graph
        self._kept = kept
        self._full = nodes_in_full_precision(graph)
        self._converted: dict[tuple[ir.Value, ir.DataType], ir.Value] = {}

    def run(self) -> None:
        outputs = [value for value in self._graph.outputs if value.dtype == _FLOAT]
        nodes = list(self._graph)
        for value in self._graph.inputs:
            if value.dtype == _FLOAT and value.name not in self._kept:
                value.dtype = _HALF
        for node in nodes:
            if node not in self._full:
                self._convert_outputs(node)
        for node in nodes:
            if node.op_type not in _TYPE_BLIND:
                self._mend_inputs(node)
        for value in outputs:
            self._mend_output(value)
        self._tidy()

    def _convert_outputs(self, node: ir.Node) -> None:
        _convert_attributes(node)
        for index, value in enumerate(node.outputs):
            if value.dtype == _FLOAT and may_be_half(node, "outputs", index):
                value.dtype = _HALF

    def _mend_inputs(self, node: ir.Node) -> None:
        for index, value in enumerate(node.inputs):
            if value is not None and value.dtype in (_FLOAT, _HALF):
                half = node not in self._full and may_be_half(node, "inputs", index)
                node.replace_input_with(index, self._as(value, _HALF if half else _FLOAT))

    def _mend_output(self, value: ir.Value) -> None:
        """Give an output of the graph the type that it is to have; inside, its own goes on."""
        wanted = _FLOAT if value.name in self._kept else _HALF
        if value.dtype == wanted:
            return
        name, value.name = value.name, f"{value.name}/inner"
        cast = self._as(value, wanted)
        cast.name, cast.shape = name, value.shape
        position = next(index for index, output in enumerate(self._graph.outputs) if output is value)
        self._graph.outputs[position] = cast

    def _as(self, value: ir.Value, dtype: ir.DataType) -> ir.Value:
        """The value in another type: a constant of that type, or the output of a Cast."""
        if value.dtype == dtype:
            return value
        key = value, dtype
        if key not in self._converted:
            make = self._constant if value.is_initializer() else self._cast
            self._converted[key] = make(value, dtype)
        return self._converted[key]

    def _constant(self, value: ir.Value, dtype: ir.DataType) -> ir.Value:
        tensor = round_tensor(value.const_value, dtype)
        constant = ir.Value(
            name=f"{value.name}/half", type=ir.TensorType(dtype), shape=tensor.shape, const_value=tensor
        )
        self._graph.register_initializer(constant)
        return constant

    def _cast(self, value: ir.Value, dtype: ir.DataType) -> ir.Value:
        name = f"{value.name}/{'half' if dtype == _HALF else 'float'}"
        cast = ir.node("Cast", [value], {"to": int(dtype)}, name=name)
        cast.outputs[0].name, cast.outputs[0].dtype = name, dtype
        producer = value.producer()
        if producer is None:
            self._graph.insert_before(self._graph[0], cast)
        else:
            self._graph.insert_after(producer, cast)
        return cast.outputs[0]

    def _tidy(self) -> None:
        """Drop what nobody reads any more, and inferred shapes, which would be written into the file."""
        for name, value in list(self._graph.initializers.items()):
            if not value.uses():
                del self._graph.initializers[name]
        for node in self._graph:
            for value in node.outputs:
                if not value.is_graph_output():
                    value.shape = value.type = None


def may_be_half(node: ir.Node, side: Literal["inputs", "outputs"], index: int) -> bool:
    """Whether ONNX lets an operator have float16 there; the scales of a Resize, for one, are float32."""
    schema = onnx.defs.get_schema(node.op_type, node.graph.opset_imports[node.domain], node.domain)
    parameters: Sequence[onnx.defs.OpSchema.FormalParameter] = getattr(schema, side)
    return "tensor(float16)" in parameters[min(index, len(parameters) - 1)].types


def round_tensor(tensor: ir.TensorProtocol, dtype: ir.DataType) -> ir.LazyTensor:
    """A float32 tensor rounded to float16 numbers, which are given as `dtype`; computed when it is read."""

    def rounded() -> ir.Tensor:
        halves = np.clip(tensor.numpy(), -_LARGEST, _LARGEST).astype(np.float16)
        return ir.Tensor(halves.astype(dtype.numpy()))

    return ir.LazyTensor(rounded, dtype=dtype, shape=tensor.shape)


def nodes_in_full_precision(graph: ir.Graph) -> set[ir.Node]:
    """The nodes that stay in float32: the step around the UNet, and what leads to a sine or cosine."""
    full = {node for node in graph if node.op_type != "Cast" and _belongs_to_step(node)}
    pending = [node for node in graph if node.op_type in ("Sin", "Cos")]
    while pending:
        node = pending.pop()
        if node not in full:
            full.add(node)
            pending += [producer for producer in node.predecessors() if producer is not None]
    for node in reversed(graph):
        readers = node.successors()
        if node.op_type == "Cast" and readers and full.issuperset(readers):
            full.add(node)
    return full


def _belongs_to_step(node: ir.Node) -> bool:
    names = [value.name or "" for value in (*node.inputs, *node.outputs) if value is not None]
    return any(name.startswith(STEP_PREFIX) for name in names)


def _convert_attributes(node: ir.Node) -> None:
    """Make a node that says its output's type say half."""
    if node.op_type == "Cast" and node.attributes["to"].as_int() == _FLOAT:
        node.attributes["to"] = ir.AttrInt64("to", int(_HALF))
    if node.op_type == "ConstantOfShape" and "value" in node.attributes:
        value = node.attributes["value"].as_tensor()
        if value.dtype == _FLOAT:
            node.attributes["value"] = ir.AttrTensor("value", ir.Tensor(value.numpy().astype(np.float16)))
