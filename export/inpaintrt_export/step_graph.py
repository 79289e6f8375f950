"""The step graph: one denoising step of a batch of unrelated requests, composed around a plain UNet.

    sample = concat(state[:, 0], condition)[row_slot]
    eps    = UNet(sample, timestep, context)
    guided = guidance @ eps
    next   = update @ (state[:, 0], ..., state[:, K-1], guided, noise, image_latents, first_noise)
    x      = next[:, 0] where mask >= threshold, else the anchor next[:, K]

Every sampler and every guidance rule is linear in the UNet's output, so that both arrive as matrices and the
graph knows none of them. Two things are not linear: the rescaling of guidance, and a row that is not finite,
which counts as zero and is noted for the slots that it counts for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import onnx
from onnx import TensorProto, compose, helper, numpy_helper

from inpaintrt.conditioning import step_outputs
from inpaintrt.errors import ExportError
from inpaintrt.samplers import STATE_TENSORS
from inpaintrt_export.families.parts import UNET_INPUTS

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from inpaintrt.bundle import Dtype, TensorSpec

__all__ = ["STEP_PREFIX", "UNET_PREFIX", "compose_step", "compose_step_file"]

STEP_PREFIX: Final = "step/"  # begins the names of the tensors around the UNet
UNET_PREFIX: Final = "unet/"  # begins the names of the UNet's own tensors
_ELEMENT_TYPES: dict[Dtype, int] = {
    "float16": TensorProto.FLOAT16,
    "float32": TensorProto.FLOAT,
    "int64": TensorProto.INT64,
}
_LARGEST = float(np.finfo(np.float32).max)


def compose_step(model: onnx.ModelProto, inputs: Mapping[str, TensorSpec]) -> onnx.ModelProto:
    """Put the step around a plain UNet.

    Args:
        model: The plain UNet: `sample`, `timestep` of `[batch]`, `encoder_hidden_states` and whatever else
            it is conditioned on, to `out_sample`. It is taken apart; external weights are referred to, not
            loaded.
        inputs: What `inpaintrt.conditioning.step_inputs` gives for the UNet.

    Raises:
        ExportError: The UNet's inputs are not those named above.
    """
    unet = model.graph
    row_inputs = {name: unet_name for name, unet_name in UNET_INPUTS.items() if name in inputs}
    types = {name: _input_type(unet, name) for name in ("sample", *row_inputs.values())}
    compose.add_prefix_graph(unet, UNET_PREFIX, inplace=True)
    before, after = _Nodes("before"), _Nodes("after")
    _feed_unet(before, row_inputs, types, conditioned="condition" in inputs)
    _advance_slots(after)
    outputs = step_outputs(_channels(inputs))
    graph = helper.make_graph(
        [*before.nodes, *unet.node, *after.nodes],
        "denoising_step",
        [_value(name, spec) for name, spec in inputs.items()],
        [_value(name, spec) for name, spec in outputs.items()],
    )
    graph.initializer.extend([*unet.initializer, *before.constants, *after.constants])
    composed = helper.make_model(graph, opset_imports=model.opset_import, producer_name="inpaintrt")
    composed.ir_version = model.ir_version
    composed.functions.extend(model.functions)
    return composed


def compose_step_file(path: Path, inputs: Mapping[str, TensorSpec]) -> None:
    """Put the step around the plain UNet in a file, in place; external weights stay where they are."""
    model = compose_step(onnx.load(path, load_external_data=False), inputs)
    path.write_bytes(model.SerializeToString())


class _Nodes:
    """Nodes written down like calls: `nodes.Add(a, b)` adds a node and gives the name of its output."""

    def __init__(self, part: str) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._part = part

    def call(self, operator: str, *inputs: str, output: str | None = None, **attributes: object) -> str:
        """Add a node."""
        name = f"{STEP_PREFIX}{self._part}/{operator}_{len(self.nodes)}"
        result = name if output is None else output
        self.nodes.append(helper.make_node(operator, list(inputs), [result], name, **attributes))
        return result

    def constant(self, value: float | list[int], dtype: type[np.generic] = np.int64) -> str:
        """Add a constant."""
        name = f"{STEP_PREFIX}{self._part}/constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.array(value, dtype), name))
        return name

    def as_float(self, value: str) -> str:
        """Cast to float32."""
        return self.call("Cast", value, to=TensorProto.FLOAT)

    def unsqueeze(self, value: str, *axes: int) -> str:
        """Insert axes of size 1."""
        return self.call("Unsqueeze", value, self.constant(list(axes)))

    def reshape(self, value: str, *shape: int) -> str:
        """Reshape to a shape in which 0 keeps an axis."""
        return self.call("Reshape", value, self.constant(list(shape)))

    def slice(self, value: str, axis: int, start: int, stop: int) -> str:
        """Take a part of an axis."""
        return self.call("Slice", value, self.constant([start]), self.constant([stop]), self.constant([axis]))


def _channels(inputs: Mapping[str, TensorSpec]) -> int:
    channels = inputs["noise"].shape[1]
    if not isinstance(channels, int):
        raise ExportError("the number of latent channels varies", received=channels, expected="a number")
    return channels


def _input_type(graph: onnx.GraphProto, name: str) -> int:
    for value in graph.input:
        if value.name == name:
            return int(value.type.tensor_type.elem_type)
    raise ExportError(
        f"the UNet's graph has no input {name!r}",
        received=", ".join(value.name for value in graph.input),
        expected=", ".join(("sample", *UNET_INPUTS.values())),
        hint="export the UNet with the names that optimum gives",
    )


def _value(name: str, spec: TensorSpec) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, _ELEMENT_TYPES[spec.dtype], spec.shape)


def _feed_unet(
    nodes: _Nodes, row_inputs: Mapping[str, str], types: Mapping[str, int], *, conditioned: bool
) -> None:
    """Every row takes x and the condition of its slot, and what it was given itself."""
    x = nodes.call("Gather", "state", nodes.constant(0), axis=1)
    slots = nodes.call("Concat", x, "condition", axis=1) if conditioned else x
    rows = nodes.call("Gather", slots, "row_slot", axis=0)
    nodes.call("Cast", rows, output=f"{UNET_PREFIX}sample", to=types["sample"])
    for name, unet_name in row_inputs.items():
        nodes.call("Cast", name, output=f"{UNET_PREFIX}{unet_name}", to=types[unet_name])


def _advance_slots(nodes: _Nodes) -> None:
    eps = nodes.reshape(nodes.as_float(f"{UNET_PREFIX}out_sample"), 0, -1)
    eps, bad = _zero_nonfinite_rows(nodes, eps)
    _note_nonfinite(nodes, bad)
    guided = _rescale(nodes, nodes.call("MatMul", "guidance", eps), eps)
    _update(nodes, nodes.call("Reshape", guided, nodes.call("Shape", "noise")))


def _zero_nonfinite_rows(nodes: _Nodes, eps: str) -> tuple[str, str]:
    """The rows `[rows, values]` with zeros for those that are not finite, and 1 `[rows, 1]` for those.

    A weight of 0 does not keep a row out of a sum, since 0 * NaN is NaN: so one request would change all
    others.
    """
    finite = nodes.call("LessOrEqual", nodes.call("Abs", eps), nodes.constant(_LARGEST, np.float32))
    wrong = nodes.call(
        "ReduceSum", nodes.as_float(nodes.call("Not", finite)), nodes.constant([1]), keepdims=1
    )
    zero = nodes.constant(0.0, np.float32)
    bad = nodes.call("Greater", wrong, zero)
    return nodes.call("Where", bad, zero, eps), nodes.as_float(bad)


def _note_nonfinite(nodes: _Nodes, bad: str) -> None:
    """next_finite = finite, but 0 for slots in which a bad row counts."""
    counts = nodes.call("MatMul", nodes.call("Abs", "guidance"), bad)
    sound = nodes.call("LessOrEqual", nodes.reshape(counts, -1), nodes.constant(0.0, np.float32))
    nodes.call("Mul", "finite", nodes.as_float(sound), output="next_finite")


def _rescale(nodes: _Nodes, guided: str, eps: str) -> str:
    """Give guided predictions `[slots, values]` the deviation of the prompt's own (arXiv:2305.08891)."""
    own = _variance(nodes, nodes.call("MatMul", "prompt_rows", eps))
    ratio = nodes.call("Sqrt", nodes.call("Div", own, _variance(nodes, guided)))
    one, phi = nodes.constant(1.0, np.float32), nodes.unsqueeze("guidance_rescale", 1)
    mixed = nodes.call("Add", nodes.call("Mul", phi, nodes.call("Sub", ratio, one)), one)
    asked = nodes.call("Greater", phi, nodes.constant(0.0, np.float32))
    return nodes.call("Mul", guided, nodes.call("Where", asked, mixed, one))


def _variance(nodes: _Nodes, values: str) -> str:
    """The sum of squared differences from the mean, `[slots, 1]`: of two, only the ratio counts."""
    last = nodes.constant([1])
    centred = nodes.call("Sub", values, nodes.call("ReduceMean", values, last, keepdims=1))
    return nodes.call("ReduceSum", nodes.call("Mul", centred, centred), last, keepdims=1)


def _update(nodes: _Nodes, guided: str) -> None:
    """The next state, slot by slot: a product with the sampler's matrix, and the gate."""
    added = [nodes.unsqueeze(tensor, 1) for tensor in (guided, "noise", "image_latents", "first_noise")]
    columns = nodes.reshape(nodes.call("Concat", "state", *added, axis=1), 0, 0, -1)
    product = nodes.call("MatMul", "update", columns)
    pixels = nodes.call("Reshape", nodes.slice(product, 1, 0, STATE_TENSORS), nodes.call("Shape", "state"))
    anchor = nodes.slice(product, 1, STATE_TENSORS, STATE_TENSORS + 1)
    x, history = nodes.slice(pixels, 1, 0, 1), nodes.slice(pixels, 1, 1, STATE_TENSORS)
    free = nodes.call("GreaterOrEqual", "mask", nodes.reshape("threshold", -1, 1, 1, 1))
    shaped = nodes.unsqueeze(nodes.call("Reshape", anchor, nodes.call("Shape", "noise")), 1)
    gated = nodes.call("Where", nodes.unsqueeze(free, 1), x, shaped)
    nodes.call("Concat", gated, history, axis=1, output="next_state")
