"""Fused nodes: as many as there are layers, and computing the same."""

import lzma
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention
from numpy.typing import NDArray
from onnx import numpy_helper

from export.graphs.group_norm import spell_out_norms
from inpaintrt.errors import ExportError
from inpaintrt.store import find_bundle
from inpaintrt_export.graphs.attention import fuse_attention
from inpaintrt_export.graphs.norms import fuse_norms

ROOT = Path(__file__).parents[3]
FULL_SIZE = ROOT / "tests" / "export" / "builds" / "sd15_step.onnx.xz"
SIZES = [(1, 1, 77, 8, 8), (2, 3, 77, 9, 7), (1, 2, 154, 12, 10)]


def _step_inputs(path: Path, slots: int, rows: int, tokens: int, height: int, width: int) -> dict[str, Any]:
    generator = np.random.default_rng(slots + rows + tokens)
    types = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(int64)": np.int64}
    sizes = {"slots": slots, "rows": rows, "tokens": tokens, "height": height, "width": width}
    inputs = {}
    for value in _session(onnx.load(path)).get_inputs():
        shape = [sizes.get(axis, axis) for axis in value.shape]
        slot = value.name == "row_slot"
        drawn: Any = generator.integers(slots, size=shape) if slot else generator.standard_normal(shape)
        inputs[value.name] = drawn.astype(types[value.type])
    return inputs


def _session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def _run(model: onnx.ModelProto, inputs: dict[str, Any]) -> NDArray[np.float64]:
    output: NDArray[np.float32] = _session(model).run(None, inputs)[0]
    return output.astype(np.float64)


def _count(model: onnx.ModelProto, operator: str) -> int:
    return sum(node.op_type == operator for node in model.graph.node)


@pytest.fixture(params=["tiny", "tiny in half precision", "demo"])
def network(
    request: pytest.FixtureRequest, tiny_bundle: Path, tiny_half_bundle: Path, tiny_checkpoint: Path
) -> tuple[Path, Path]:
    """A denoiser, and the folder of the UNet that it was exported from."""
    if request.param == "demo":
        return find_bundle("demo") / "denoiser/model.onnx", ROOT / "demo/checkpoint/unet"
    bundle = tiny_bundle if request.param == "tiny" else tiny_half_bundle
    return bundle / "denoiser/model.onnx", tiny_checkpoint / "unet"


def test_every_attention_layer_becomes_one_node(network: tuple[Path, Path]) -> None:
    path, checkpoint = network
    layers = [
        part
        for part in UNet2DConditionModel.from_pretrained(checkpoint).modules()
        if isinstance(part, Attention)
    ]
    model = ir.load(path)
    assert fuse_attention(model) == len(layers) > 0
    fused = ir.to_proto(model)
    nodes = [node for node in fused.graph.node if node.op_type == "MultiHeadAttention"]
    assert len(nodes) == len(layers)
    heads = [onnx.helper.get_node_attr_value(node, "num_heads") for node in nodes]
    assert sorted(heads) == sorted(layer.heads for layer in layers)
    assert _count(fused, "Softmax") == 0


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_fused_networks_compute_the_same(network: tuple[Path, Path], sizes: tuple[int, ...]) -> None:
    path, _ = network
    inputs = _step_inputs(path, *sizes)
    expected = _run(onnx.load(path), inputs)
    tolerance = 3e-3 if inputs["context"].dtype == np.float16 else 1e-5
    model = ir.external_data.load_to_model(ir.load(path))
    fuse_attention(model)
    attention_fused = ir.to_proto(model)
    fuse_norms(model)
    for fused in (attention_fused, spell_out_norms(ir.to_proto(model))):
        difference = np.linalg.norm(_run(fused, inputs) - expected)
        assert difference < tolerance * np.linalg.norm(expected)


def test_every_normalisation_becomes_one_node(network: tuple[Path, Path]) -> None:
    path, _ = network
    norms = _count(onnx.load(path), "InstanceNormalization")
    silus = _count(onnx.load(path), "Sigmoid")
    model = ir.load(path)
    assert fuse_norms(model) == norms > 0
    fused = ir.to_proto(model)
    activated = [
        onnx.helper.get_node_attr_value(node, "activation")
        for node in fused.graph.node
        if node.op_type == "GroupNorm"
    ]
    assert len(activated) == norms
    # Other SiLUs follow the embedding of the timestep.
    assert sum(activated) == silus - _count(fused, "Sigmoid") > 0
    assert _count(fused, "InstanceNormalization") == 0
    weights = {tensor.name: tensor for tensor in fused.graph.initializer}
    for node in fused.graph.node:
        if node.op_type == "GroupNorm":
            assert [weights[name].data_type for name in node.input[1:]] == [onnx.TensorProto.FLOAT] * 2


def test_the_full_size_network_is_fused_whole(tmp_path: Path) -> None:
    """32 layers of attention, and heads that the CUDA provider's flash attention takes."""
    path = tmp_path / "model.onnx"
    path.write_bytes(lzma.decompress(FULL_SIZE.read_bytes()))
    _write_empty_weights(path)
    model = ir.load(path)
    assert fuse_attention(model) == 32
    assert fuse_norms(model) == 61
    fused = ir.to_proto(model)
    shapes = {tensor.name: tensor.dims for tensor in fused.graph.initializer}
    producers = {name: node for node in fused.graph.node for name in node.output}
    for node in fused.graph.node:
        if node.op_type == "MultiHeadAttention":
            assert len(node.input) == 3  # nothing is masked
            widths = {shapes[producers[name].input[1]][1] for name in node.input}
            assert len(widths) == 1
            head = widths.pop() // onnx.helper.get_node_attr_value(node, "num_heads")
            assert head in (40, 80, 160)


def _write_empty_weights(path: Path) -> None:
    ends = [
        int(entry["offset"]) + int(entry["length"])
        for tensor in onnx.load(path, load_external_data=False).graph.initializer
        if (entry := {item.key: item.value for item in tensor.external_data})
    ]
    with path.with_name("model.onnx.data").open("wb") as stream:
        stream.truncate(max(ends))


def test_attention_with_another_scale_is_refused(tiny_bundle: Path) -> None:
    proto = onnx.load(tiny_bundle / "denoiser" / "model.onnx")
    scale = _scales(proto)[0]
    values = numpy_helper.to_array(scale) * np.float32(2)
    scale.CopyFrom(numpy_helper.from_array(values, scale.name))
    with pytest.raises(ExportError, match=r"(?s)of 8 layers.*inpaintrt export"):
        fuse_attention(ir.from_proto(proto))


def _scales(proto: onnx.ModelProto) -> list[onnx.TensorProto]:
    """The constants that queries are multiplied by."""
    producers = {name: node for node in proto.graph.node for name in node.output}
    logits = [producers[node.input[0]] for node in proto.graph.node if node.op_type == "Softmax"]
    names = {producers[node.input[0]].input[1] for node in logits}
    return [tensor for tensor in proto.graph.initializer if tensor.name in names]


def test_a_network_without_attention_is_refused(tiny_bundle: Path) -> None:
    model = ir.load(tiny_bundle / "denoiser" / "model.onnx")
    fuse_attention(model)
    with pytest.raises(ExportError, match="0 of 0 layers"):
        fuse_attention(model)


@pytest.mark.parametrize(("channels", "fused"), [(6, 0), (8, 1), (1024, 1), (1028, 0)])
def test_groups_that_the_cuda_kernel_does_not_take_stay_as_they_are(channels: int, fused: int) -> None:
    """It takes channels two by two, and at most 512 of them."""
    text = f"""
        <ir_version: 10, opset_import: ["" : 18]>
        graph (float[n, {channels}, h, w] x) => (float[n, {channels}, h, w] y)
        <int64[3] grouped = {{0, 2, -1}}, float[2] ones = {{1, 1}}, float[2] zeros = {{0, 0}}>
        {{
            shape = Shape (x)
            groups = Reshape (x, grouped)
            normed = InstanceNormalization <epsilon = 1e-5> (groups, ones, zeros)
            whole = Reshape (normed, shape)
            scaled = Mul (whole, gamma)
            y = Add (scaled, beta)
        }}
    """
    proto = onnx.parser.parse_model(text)
    for name in ("gamma", "beta"):
        weights = np.linspace(1, 2, channels, dtype=np.float32).reshape(-1, 1, 1)
        proto.graph.initializer.append(numpy_helper.from_array(weights, name))
    model = ir.from_proto(proto)
    x = np.random.default_rng(0).standard_normal((2, channels, 3, 5)).astype(np.float32)
    expected = _run(proto, {"x": x})
    assert fuse_norms(model) == fused
    np.testing.assert_allclose(_run(spell_out_norms(ir.to_proto(model)), {"x": x}), expected, atol=1e-5)
