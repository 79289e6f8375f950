"""Graphs for OpenVINO's CPU kernels: other operations, the same results, and what does not fit stays."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import openvino
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from inpaintrt.backends.openvino_graphs import merge_upsampling, rewrite_group_norms
from inpaintrt.store import find_bundle

CHANNELS, GROUPS, EPSILON = 6, 2, 1e-6
RANDOM = np.random.default_rng(5)
SCALE, SHIFT = (RANDOM.standard_normal(CHANNELS).astype(np.float32) for _ in range(2))
WEIGHTS = RANDOM.standard_normal((3, CHANNELS, 3, 3)).astype(np.float32)
Values = NDArray[np.float32]


def _model(
    nodes: list[onnx.NodeProto], constants: dict[str, Any], outputs: tuple[str, ...] = ("y",)
) -> bytes:
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", CHANNELS, "height", "width"])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return bytes(model.SerializeToString())


def _group_norm(instance_scale: float = 1.0, outputs: tuple[str, ...] = ("y",)) -> bytes:
    """A group normalization as PyTorch exports it."""
    nodes = [
        helper.make_node("Reshape", ["x", "grouped_shape"], ["grouped"]),
        helper.make_node("InstanceNormalization", ["grouped", "ones", "zeros"], ["normal"], epsilon=EPSILON),
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Reshape", ["normal", "shape"], ["normalized"]),
        helper.make_node("Mul", ["normalized", "scale"], ["scaled"]),
        helper.make_node("Add", ["scaled", "shift"], ["y"]),
    ]
    constants = {
        "grouped_shape": np.array([0, GROUPS, -1]),
        "ones": np.full(GROUPS, instance_scale, np.float32),
        "zeros": np.zeros(GROUPS, np.float32),
        "scale": SCALE.reshape(-1, 1, 1),
        "shift": SHIFT.reshape(-1, 1, 1),
    }
    return _model(nodes, constants, outputs)


def _upsampling(
    factors: tuple[float, ...] = (1, 1, 2, 2),
    coordinates: str = "asymmetric",
    stride: int = 1,
    weights: Values = WEIGHTS,
    outputs: tuple[str, ...] = ("y",),
) -> bytes:
    """A doubled image and a convolution, as PyTorch exports them."""
    resize = {"coordinate_transformation_mode": coordinates, "mode": "nearest", "nearest_mode": "floor"}
    nodes = [
        helper.make_node("Resize", ["x", "", "factors"], ["large"], **resize),
        helper.make_node("Conv", ["large", "weights", "bias"], ["y"], pads=[1] * 4, strides=[stride] * 2),
    ]
    bias = np.array([0.5, -1, 2], np.float32)
    constants = {"factors": np.array(factors, np.float32), "weights": weights, "bias": bias}
    return _model(nodes, constants, outputs)


def _read(model: bytes | Path, shape: tuple[int, ...]) -> openvino.Model:
    read = openvino.Core().read_model(model)
    read.reshape(openvino.PartialShape(list(shape)))
    return read


def _run(model: openvino.Model, x: Values) -> Values:
    compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return np.array(compiled(x)[0])


def _types(model: openvino.Model) -> set[str]:
    return {node.get_type_name() for node in model.get_ops()}


def _normalized(x: Values) -> NDArray[np.float64]:
    """The definition (Wu and He 2018, equation 1 and 2), in float64."""
    grouped = x.astype(np.float64).reshape(len(x), GROUPS, -1)
    mean, variance = grouped.mean(axis=2, keepdims=True), grouped.var(axis=2, keepdims=True)
    normal = ((grouped - mean) / np.sqrt(variance + EPSILON)).reshape(x.shape)
    result: NDArray[np.float64] = normal * SCALE.reshape(-1, 1, 1) + SHIFT.reshape(-1, 1, 1)
    return result


@pytest.mark.parametrize("batch", [1, 3])
def test_a_group_normalization_keeps_its_result_without_reshaping(batch: int) -> None:
    x = RANDOM.standard_normal((batch, CHANNELS, 40, 33)).astype(np.float32)
    x *= np.arange(1, CHANNELS + 1, dtype=np.float32).reshape(-1, 1, 1)
    x += np.arange(batch * CHANNELS, dtype=np.float32).reshape(batch, CHANNELS, 1, 1)
    model = _read(_group_norm(), x.shape)
    assert rewrite_group_norms(model) == 1
    assert "MVN" not in _types(model)
    np.testing.assert_allclose(_run(model, x), _normalized(x), rtol=1e-5, atol=1e-5)


def test_values_far_from_zero_lose_no_more_than_float32_must() -> None:
    x = (RANDOM.standard_normal((1, CHANNELS, 64, 64)) + 1000).astype(np.float32)
    model = _read(_group_norm(), x.shape)
    assert rewrite_group_norms(model) == 1
    np.testing.assert_allclose(_run(model, x), _normalized(x), atol=1e-3)


@pytest.mark.parametrize(
    ("model", "side"),
    [
        (_group_norm(), 31),
        (_group_norm(instance_scale=2.0), 40),
        (_group_norm(outputs=("y", "normalized")), 40),
        (_group_norm(outputs=("y", "scaled")), 40),
    ],
    ids=["small", "another scale", "a result within is an output", "another result within is an output"],
)
def test_other_normalizations_stay(model: bytes, side: int) -> None:
    read = _read(model, (1, CHANNELS, side, side))
    assert rewrite_group_norms(read) == 0
    assert "MVN" in _types(read)


@pytest.mark.parametrize("size", [(1, 1), (2, 5), (7, 4)])
def test_upsampling_and_convolution_are_one_up_to_the_edges(size: tuple[int, int]) -> None:
    x = RANDOM.standard_normal((2, CHANNELS, *size)).astype(np.float32)
    expected = onnxruntime.InferenceSession(_upsampling()).run(None, {"x": x})[0]
    model = _read(_upsampling(), x.shape)
    assert merge_upsampling(model) == 1
    assert not {"Interpolate", "Convolution"} & _types(model)
    np.testing.assert_allclose(_run(model, x), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "model",
    [
        _upsampling(factors=(1, 1, 3, 3)),
        _upsampling(factors=(1, 1, 2, 1)),
        _upsampling(coordinates="half_pixel"),
        _upsampling(stride=2),
        _upsampling(weights=WEIGHTS[:, :, :1, :1]),
        _upsampling(outputs=("y", "large")),
    ],
    ids=["tripled", "one axis", "other pixels", "stride", "kernel", "the doubled image is an output"],
)
def test_other_resizing_stays(model: bytes) -> None:
    read = _read(model, (1, CHANNELS, 4, 4))
    assert merge_upsampling(read) == 0
    assert "Interpolate" in _types(read)


@pytest.mark.parametrize(
    ("component", "shape", "norms", "merged"),
    [("vae_decoder", (1, 4, 16, 16), 13, 3), ("vae_encoder", (1, 3, 128, 128), 6, 0)],
)
def test_the_demos_vae_is_rewritten_and_gives_what_it_gave(
    component: str, shape: tuple[int, ...], norms: int, merged: int
) -> None:
    path = find_bundle("demo") / component / "model.onnx"
    x = np.clip(RANDOM.standard_normal(shape), -1, 1).astype(np.float32)
    expected = _run(_read(path, shape), x)
    model = _read(path, shape)
    assert (merge_upsampling(model), rewrite_group_norms(model)) == (merged, norms)
    np.testing.assert_allclose(_run(model, x), expected, rtol=1e-5, atol=2e-5)
