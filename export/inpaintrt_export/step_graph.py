"""The step graph: one denoising step of a batch of unrelated requests, composed around a plain UNet.

    sample = concat(state[:, 0], condition)[row_slot]
    eps    = UNet(sample, timestep, context)
    guided = guidance @ eps
    next   = update @ (state[:, 0], ..., state[:, K-1], guided, noise)

Every sampler and every guidance rule is linear in the UNet's output, so that both arrive as matrices and the
graph knows none of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import onnx
from onnx import TensorProto, compose, helper, numpy_helper

from inpaintrt.bundle import TensorSpec
from inpaintrt.errors import ExportError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from inpaintrt.bundle import Dtype

__all__ = ["STATE_SLOTS", "STEP_PREFIX", "compose_step", "compose_step_file", "step_inputs", "step_outputs"]

STATE_SLOTS: Final = 6  # tensors that a slot keeps: x, and the history of the sampler
STEP_PREFIX: Final = "step/"  # begins the names of the tensors around the UNet
LATENT_CHANNELS: Final = 4
CONDITION_CHANNELS: Final = 5  # mask and latents of the masked picture
_UNET = "unet/"
_UNET_INPUTS = ("sample", "timestep", "encoder_hidden_states")

_ELEMENT_TYPES: dict[Dtype, int] = {
    "float16": TensorProto.FLOAT16,
    "float32": TensorProto.FLOAT,
    "int64": TensorProto.INT64,
}


def step_inputs(context_width: int, context_dtype: Dtype) -> dict[str, TensorSpec]:
    """Inputs of the step graph, in their order.

    Args:
        context_width: Width of one token's embedding.
        context_dtype: Element type of `context`: that of the text encoder's output.
    """

    def spec(dtype: Dtype, *shape: int | str) -> TensorSpec:
        return TensorSpec(dtype=dtype, shape=shape)

    return {
        "state": spec("float32", "slots", STATE_SLOTS, LATENT_CHANNELS, "height", "width"),
        "condition": spec("float32", "slots", CONDITION_CHANNELS, "height", "width"),
        "row_slot": spec("int64", "rows"),
        "timestep": spec("float32", "rows"),
        "context": spec(context_dtype, "rows", "tokens", context_width),
        "guidance": spec("float32", "slots", "rows"),
        "update": spec("float32", "slots", STATE_SLOTS, STATE_SLOTS + 2),
        "noise": spec("float32", "slots", LATENT_CHANNELS, "height", "width"),
    }


def step_outputs() -> dict[str, TensorSpec]:
    """Output of the step graph."""
    shape = ("slots", STATE_SLOTS, LATENT_CHANNELS, "height", "width")
    return {"next_state": TensorSpec(dtype="float32", shape=shape)}


def compose_step(model: onnx.ModelProto, inputs: Mapping[str, TensorSpec]) -> onnx.ModelProto:
    """Put the step around a plain UNet.

    Args:
        model: The plain UNet: `sample`, `timestep` of `[batch]`, `encoder_hidden_states` to `out_sample`. It
            is taken apart; external weights are referred to, not loaded.
        inputs: What `step_inputs` gives for the UNet.

    Raises:
        ExportError: The UNet's inputs are not those named above.
    """
    unet = model.graph
    sample, timestep, hidden = (_input_type(unet, name) for name in _UNET_INPUTS)
    compose.add_prefix_graph(unet, _UNET, inplace=True)
    before = [*_gather_rows(sample), *_cast_row_inputs(timestep, hidden)]
    nodes = [*before, *unet.node, *_apply_guidance(), *_apply_update()]
    graph = helper.make_graph(
        nodes,
        "denoising_step",
        [_value(name, spec) for name, spec in inputs.items()],
        [_value(name, spec) for name, spec in step_outputs().items()],
    )
    graph.initializer.extend(unet.initializer)
    graph.initializer.extend(_constants())
    composed = helper.make_model(graph, opset_imports=model.opset_import, producer_name="inpaintrt")
    composed.ir_version = model.ir_version
    composed.functions.extend(model.functions)
    return composed


def compose_step_file(path: Path, inputs: Mapping[str, TensorSpec]) -> None:
    """Put the step around the plain UNet in a file, in place; external weights stay where they are."""
    model = compose_step(onnx.load(path, load_external_data=False), inputs)
    path.write_bytes(model.SerializeToString())


def _input_type(graph: onnx.GraphProto, name: str) -> int:
    for value in graph.input:
        if value.name == name:
            return int(value.type.tensor_type.elem_type)
    raise ExportError(
        f"the UNet's graph has no input {name!r}",
        received=", ".join(value.name for value in graph.input),
        expected=", ".join(_UNET_INPUTS),
        hint="export the UNet with the names that optimum gives",
    )


def _value(name: str, spec: TensorSpec) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, _ELEMENT_TYPES[spec.dtype], spec.shape)


def _constants() -> list[onnx.TensorProto]:
    values: Mapping[str, list[int] | int] = {
        "step/first": 0,
        "step/axis_1": [1],
        "step/flat_rows": [0, -1],
        "step/flat_tensors": [0, 0, -1],
    }
    return [numpy_helper.from_array(np.array(value, dtype=np.int64), name) for name, value in values.items()]


def _gather_rows(sample_type: int) -> list[onnx.NodeProto]:
    """Every row takes x and the condition of its slot."""
    return [
        helper.make_node("Gather", ["state", "step/first"], ["step/x"], "step/x", axis=1),
        helper.make_node("Concat", ["step/x", "condition"], ["step/slots"], "step/slots", axis=1),
        helper.make_node("Gather", ["step/slots", "row_slot"], ["step/rows"], "step/rows", axis=0),
        helper.make_node("Cast", ["step/rows"], [f"{_UNET}sample"], "step/sample", to=sample_type),
    ]


def _cast_row_inputs(timestep_type: int, hidden_type: int) -> list[onnx.NodeProto]:
    hidden = f"{_UNET}encoder_hidden_states"
    return [
        helper.make_node("Cast", ["timestep"], [f"{_UNET}timestep"], "step/timestep", to=timestep_type),
        helper.make_node("Cast", ["context"], [hidden], "step/context", to=hidden_type),
    ]


def _apply_guidance() -> list[onnx.NodeProto]:
    """Guided = guidance @ eps, of shape `[slots, 4, height, width]`."""
    return [
        helper.make_node("Cast", [f"{_UNET}out_sample"], ["step/eps"], "step/eps", to=TensorProto.FLOAT),
        helper.make_node("Reshape", ["step/eps", "step/flat_rows"], ["step/eps_flat"], "step/eps_flat"),
        helper.make_node("MatMul", ["guidance", "step/eps_flat"], ["step/guided_flat"], "step/guided_flat"),
        helper.make_node("Shape", ["noise"], ["step/noise_shape"], "step/noise_shape"),
        helper.make_node("Reshape", ["step/guided_flat", "step/noise_shape"], ["step/guided"], "step/guided"),
    ]


def _apply_update() -> list[onnx.NodeProto]:
    """next_state = update @ (state, guided, noise), slot by slot."""
    return [
        helper.make_node("Unsqueeze", ["step/guided", "step/axis_1"], ["step/guided_5d"], "step/guided_5d"),
        helper.make_node("Unsqueeze", ["noise", "step/axis_1"], ["step/noise_5d"], "step/noise_5d"),
        helper.make_node(
            "Concat", ["state", "step/guided_5d", "step/noise_5d"], ["step/all"], "step/all", axis=1
        ),
        helper.make_node("Reshape", ["step/all", "step/flat_tensors"], ["step/all_flat"], "step/all_flat"),
        helper.make_node("MatMul", ["update", "step/all_flat"], ["step/next_flat"], "step/next_flat"),
        helper.make_node("Shape", ["state"], ["step/state_shape"], "step/state_shape"),
        helper.make_node("Reshape", ["step/next_flat", "step/state_shape"], ["next_state"], "next_state"),
    ]
