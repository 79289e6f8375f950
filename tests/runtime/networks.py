"""Small real networks, made without PyTorch: a nonlinear convolution in the place of a UNet."""

from pathlib import Path

import msgspec
import numpy as np
import onnx
import onnx_ir as ir
from onnx import TensorProto, helper, numpy_helper

from inpaintrt.backends.onnxruntime import OnnxRuntimeEngine
from inpaintrt.bundle import CACHED_FEATURE, SHALLOW_DENOISER, Architecture, Build, TensorSpec
from inpaintrt.conditioning import cached_feature, step_outputs
from inpaintrt.families import SD, step_specs
from inpaintrt_export.graphs.feature import find_feature, give_feature, take_feature
from inpaintrt_export.step_graph import UNET_PREFIX, compose_step

__all__ = [
    "JOINED_WEIGHTS",
    "WIDTH",
    "cached_builds",
    "convolution",
    "fused_engine",
    "joining_network",
    "plain_build",
    "plain_engine",
    "small_step_inputs",
    "step_build",
]

WIDTH = 12


def convolution(
    timestep_type: int = TensorProto.FLOAT, timestep_shape: tuple[str, ...] = ("batch",)
) -> onnx.ModelProto:
    """`out = tanh(conv(sample) + mean(context) + sin(timestep / 100))`, with a UNet's inputs and output."""
    random = np.random.default_rng(0)
    weights = (random.standard_normal((4, 9, 3, 3)) * 0.2).astype(np.float32)
    constants = {
        "weights": weights,
        "hundred": np.array(100, np.float32),
        "column": np.array([-1, 1, 1, 1], np.int64),
        "axes": np.array([1, 2], np.int64),
    }
    nodes = [
        helper.make_node("Conv", ["sample", "weights"], ["features"], pads=[1, 1, 1, 1]),
        helper.make_node("Cast", ["timestep"], ["time_float"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["time_float", "hundred"], ["time_scaled"]),
        helper.make_node("Sin", ["time_scaled"], ["time_sine"]),
        helper.make_node("Reshape", ["time_sine", "column"], ["time_column"]),
        helper.make_node("ReduceMean", ["encoder_hidden_states", "axes"], ["text"], keepdims=0),
        helper.make_node("Reshape", ["text", "column"], ["text_column"]),
        helper.make_node("Add", ["features", "time_column"], ["timed"]),
        helper.make_node("Add", ["timed", "text_column"], ["prompted"]),
        helper.make_node("Tanh", ["prompted"], ["out_sample"]),
    ]
    graph = helper.make_graph(
        nodes,
        "unet",
        [
            helper.make_tensor_value_info("sample", TensorProto.FLOAT, ["batch", 9, "height", "width"]),
            helper.make_tensor_value_info("timestep", timestep_type, list(timestep_shape)),
            helper.make_tensor_value_info(
                "encoder_hidden_states", TensorProto.FLOAT, ["batch", "tokens", WIDTH]
            ),
        ],
        [helper.make_tensor_value_info("out_sample", TensorProto.FLOAT, ["batch", 4, "height", "width"])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def plain_build(timestep: TensorSpec) -> Build:
    """What a manifest says of `convolution`."""
    return Build(
        component="denoiser",
        files=("unet.onnx",),
        precision="fp32",
        form="unet",
        inputs={
            "sample": TensorSpec(dtype="float32", shape=("batch", 9, "height", "width")),
            "timestep": timestep,
            "encoder_hidden_states": TensorSpec(dtype="float32", shape=("batch", "tokens", WIDTH)),
        },
        outputs={"out_sample": TensorSpec(dtype="float32", shape=("batch", 4, "height", "width"))},
    )


def plain_engine(
    folder: Path, *, whole_timesteps: bool = False, scalar_timestep: bool = False
) -> OnnxRuntimeEngine:
    """The network with the inputs that optimum gives a UNet."""
    shape = () if scalar_timestep else ("batch",)
    model = convolution(TensorProto.INT64 if whole_timesteps else TensorProto.FLOAT, shape)
    onnx.save(model, folder / "unet.onnx")
    spec = TensorSpec(dtype="int64" if whole_timesteps else "float32", shape=shape)
    return OnnxRuntimeEngine(folder / "unet.onnx", plain_build(spec))


def small_step_inputs() -> dict[str, TensorSpec]:
    """What a step around `convolution` takes."""
    architecture = Architecture(
        latent_channels=4,
        vae_scale_factor=8,
        latent_scale=0.18215,
        context_width=WIDTH,
        prediction_type="epsilon",
        native_resolution=(64, 64),
        condition_channels=5,
    )
    return step_specs(SD, architecture)


def fused_engine(folder: Path) -> OnnxRuntimeEngine:
    """The same network with the step composed around it."""
    inputs = small_step_inputs()
    onnx.save(compose_step(convolution(), inputs), folder / "step.onnx")
    return OnnxRuntimeEngine(folder / "step.onnx", step_build(inputs))


JOINED_WEIGHTS = {
    "conv_in.weight": f"{UNET_PREFIX}first",
    "mid_block.resnets.0.conv1.weight": f"{UNET_PREFIX}deep",
    "up_blocks.0.resnets.0.conv_shortcut.weight": f"{UNET_PREFIX}last",
}
"""Where a step around `joining_network` holds its weights, by diffusers' names."""


def joining_network() -> onnx.ModelProto:
    """A network that joins what its deep layer makes with what was skipped to it, as a UNet does.

    `skipped = conv(sample)`, `deep = tanh(conv(skipped) + mean(context))`,
    `out = tanh(conv(concat(deep, skipped)) + sin(timestep / 100))`.
    """
    model = convolution()
    random = np.random.default_rng(1)
    shapes = {"first": (4, 9, 3, 3), "deep": (6, 4, 3, 3), "last": (4, 10, 3, 3)}
    initializers = {tensor.name: tensor for tensor in model.graph.initializer if tensor.name != "weights"}
    for name, shape in shapes.items():
        weight = (random.standard_normal(shape) * 0.2).astype(np.float32)
        initializers[name] = numpy_helper.from_array(weight, name)
    kept = [node for node in model.graph.node if node.op_type not in ("Conv", "Add", "Tanh")]
    nodes = [
        *kept,
        helper.make_node("Conv", ["sample", "first"], ["skipped"], pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["skipped", "deep"], ["below"], pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["below", "text_column"], ["prompted"]),
        helper.make_node("Tanh", ["prompted"], ["output"]),
        helper.make_node("Concat", ["output", "skipped"], ["joined"], axis=1),
        helper.make_node("Conv", ["joined", "last"], ["above"], pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["above", "time_column"], ["timed"]),
        helper.make_node("Tanh", ["timed"], ["out_sample"]),
    ]
    graph = helper.make_graph(
        nodes, "unet", model.graph.input, model.graph.output, list(initializers.values())
    )
    return helper.make_model(graph, opset_imports=model.opset_import, ir_version=10)


def cached_builds(folder: Path) -> tuple[Build, Build]:
    """A step around `joining_network` that gives the cached feature, and its shallow form, as files."""
    inputs = small_step_inputs()
    composed = compose_step(joining_network(), inputs).SerializeToString()
    models = [ir.from_proto(onnx.load_from_string(composed)) for _ in range(2)]
    full, shallow = models
    features = [find_feature(model.graph, JOINED_WEIGHTS, 0) for model in models]
    give_feature(full.graph, features[0])
    take_feature(shallow, features[1], JOINED_WEIGHTS)
    for model, file in zip(models, ("full.onnx", "shallow.onnx"), strict=True):
        ir.save(model, folder / file)
    feature = {CACHED_FEATURE: cached_feature(6, "float32")}
    taken = {str(value.name) for value in shallow.graph.inputs}
    build = step_build(inputs)
    return (
        msgspec.structs.replace(build, outputs={**build.outputs, **feature}, files=("full.onnx",)),
        msgspec.structs.replace(
            build,
            component=SHALLOW_DENOISER,
            inputs={name: spec for name, spec in {**inputs, **feature}.items() if name in taken},
            files=("shallow.onnx",),
        ),
    )


def step_build(inputs: dict[str, TensorSpec]) -> Build:
    """What a manifest says of the step around `convolution`, in a file `step.onnx`."""
    return Build(
        component="denoiser",
        precision="fp32",
        inputs=inputs,
        outputs=step_outputs(4),
        files=("step.onnx",),
        form="step",
    )
