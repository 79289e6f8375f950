"""Converted graphs beside those that PyTorch exports in half precision."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from bundles import SD_COMPONENTS
from inpaintrt.bundle import load_manifest
from inpaintrt.errors import ExportError
from inpaintrt_export.graphs.files import save_model
from inpaintrt_export.parity import open_session
from inpaintrt_export.precision.check import compare_networks
from inpaintrt_export.precision.conversions import describe_half
from inpaintrt_export.precision.half import convert_to_half
from inpaintrt_export.precision.halves import HalfNetworks
from inpaintrt_export.step_graph import STEP_PREFIX

FLOAT, HALF = TensorProto.FLOAT, TensorProto.FLOAT16


@pytest.fixture(scope="module")
def halves(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> HalfNetworks:
    return HalfNetworks(tiny_bundle, load_manifest(tiny_bundle), tmp_path_factory.mktemp("halves"))


def _convert(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[tuple[str, int]],
    constants: Mapping[str, NDArray[np.generic]] | None = None,
    kept: Sequence[str] = (),
) -> onnx.ModelProto:
    """A graph of vectors that ends in "y", converted."""
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(name, dtype, ["n"]) for name, dtype in inputs],
        [helper.make_tensor_value_info("y", FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in (constants or {}).items()],
    )
    model = ir.from_proto(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    )
    convert_to_half(model, kept)
    converted: onnx.ModelProto = ir.to_proto(model)
    onnx.checker.check_model(converted, full_check=True)
    return converted


def _run(model: onnx.ModelProto, **inputs: NDArray[np.generic]) -> NDArray[np.generic]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    output: NDArray[np.generic] = session.run(None, inputs)[0]
    return output


def _dtypes(values: Sequence[onnx.ValueInfoProto]) -> dict[str, int]:
    return {value.name: value.type.tensor_type.elem_type for value in values}


@pytest.mark.parametrize("name", SD_COMPONENTS)
def test_a_converted_network_is_as_good_as_an_exported_one(
    halves: HalfNetworks, tiny_bundle: Path, tiny_half_bundle: Path, name: str
) -> None:
    manifest = load_manifest(tiny_bundle)
    own = tiny_bundle / manifest.exported[name].file
    exported = tiny_half_bundle / load_manifest(tiny_half_bundle).exported[name].file
    errors = [compare_networks(own, path, manifest, name) for path in (halves.path(name), exported)]
    assert 1e-6 < errors[0].relative_error < 1.1 * errors[1].relative_error


@pytest.mark.parametrize("name", SD_COMPONENTS)
def test_a_converted_network_has_the_inputs_and_outputs_of_an_exported_one(
    halves: HalfNetworks, tiny_bundle: Path, tiny_half_bundle: Path, name: str
) -> None:
    exported = load_manifest(tiny_half_bundle).exported[name]
    described = describe_half(load_manifest(tiny_bundle), name)
    assert (described.precision, described.inputs, described.outputs) == (
        "fp16",
        exported.inputs,
        exported.outputs,
    )
    session = open_session(halves.path(name), sparing=True)
    found = {value.name: value.type for value in (*session.get_inputs(), *session.get_outputs())}
    names = {"float16": "tensor(float16)", "float32": "tensor(float)", "int64": "tensor(int64)"}
    specs = {**described.inputs, **described.outputs}
    assert found == {tensor: names[spec.dtype] for tensor, spec in specs.items()}


@pytest.mark.parametrize("name", SD_COMPONENTS)
def test_a_converted_file_holds_half_weights_and_no_descriptions(
    halves: HalfNetworks, tiny_half_bundle: Path, name: str
) -> None:
    graph = onnx.load(halves.path(name)).graph
    floats = [tensor for tensor in graph.initializer if tensor.data_type == FLOAT]
    assert all(np.prod(tensor.dims) <= 64 for tensor in floats)
    exported = (tiny_half_bundle / name / "model.onnx").stat().st_size
    assert halves.path(name).stat().st_size < 1.2 * exported
    assert not graph.value_info
    of_unet = [node for node in graph.node if not node.name.startswith(STEP_PREFIX)]
    assert sum(node.op_type == "Cast" for node in of_unet) <= 6


def test_weights_of_a_large_network_lie_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inpaintrt_export.graphs.files.EMBEDDED_WEIGHTS_LIMIT", 1000)
    weights = np.random.default_rng(0).standard_normal(1000).astype(np.float32)
    model = ir.from_proto(
        _convert([helper.make_node("Mul", ["x", "w"], ["y"])], [("x", FLOAT)], {"w": weights})
    )
    save_model(model, tmp_path / "model.onnx")
    assert (tmp_path / "model.onnx.data").stat().st_size == 2000
    ones = np.ones(1000, np.float16)
    session = open_session(tmp_path / "model.onnx", sparing=True)
    np.testing.assert_array_equal(session.run(None, {"x": ones})[0], weights.astype(np.float16))


def test_numbers_beyond_the_range_become_the_largest() -> None:
    mask = np.array([0, -3.4e38, 3.4e38, 1e-9], np.float32)
    model = _convert([helper.make_node("Add", ["x", "mask"], ["y"])], [("x", FLOAT)], {"mask": mask})
    found = _run(model, x=np.zeros(4, np.float16))
    np.testing.assert_array_equal(found, np.array([0, -65504, 65504, 0], np.float16))


def test_the_way_to_a_sine_stays_float32() -> None:
    """Half precision cannot tell 999.25 from 999.5."""
    nodes = [
        helper.make_node("Mul", ["timestep", "frequency"], ["angle"]),
        helper.make_node("Sin", ["angle"], ["sine"]),
        helper.make_node("Mul", ["sine", "x"], ["y"]),
    ]
    frequency = np.ones(1, np.float32)
    model = _convert(nodes, [("timestep", FLOAT), ("x", FLOAT)], {"frequency": frequency}, ["timestep"])
    found = _run(model, timestep=np.array([999.25], np.float32), x=np.array([1], np.float16))
    assert found.dtype == np.float16
    assert found[0] == pytest.approx(np.sin(999.25), abs=1e-3)
    assert abs(np.sin(float(np.float16(999.25))) - np.sin(999.25)) > 0.05


def test_inputs_and_outputs_that_are_kept_stay_float32() -> None:
    nodes = [helper.make_node("Add", ["a", "b"], ["y"])]
    model = _convert(nodes, [("a", FLOAT), ("b", FLOAT)], kept=["a", "y"])
    assert _dtypes(model.graph.input) == {"a": FLOAT, "b": HALF}
    assert _dtypes(model.graph.output) == {"y": FLOAT}
    assert sorted(node.op_type for node in model.graph.node) == ["Add", "Cast", "Cast"]
    found = _run(model, a=np.array([1], np.float32), b=np.array([2], np.float16))
    assert found.dtype == np.dtype(np.float32)
    assert found.tolist() == [3]


def test_an_output_that_is_also_read_inside_is_half_inside() -> None:
    """The type of an operator that float16 is not defined for stays, too."""
    nodes = [
        helper.make_node("Exp", ["x"], ["y"]),
        helper.make_node("Resize", ["image", "", "scales"], ["resized"]),
        helper.make_node("Unsqueeze", ["y", "axes"], ["image"]),
    ]
    nodes = [nodes[0], nodes[2], nodes[1]]
    constants = {"axes": np.array([0, 1]), "scales": np.array([1, 1, 2], np.float32)}
    model = _convert(nodes, [("x", FLOAT)], constants, kept=["y"])
    assert _dtypes(model.graph.output) == {"y": FLOAT}
    assert {tensor.name: tensor.data_type for tensor in model.graph.initializer}["scales"] == FLOAT
    assert _run(model, x=np.zeros(2, np.float16)).tolist() == [1, 1]


def test_constants_in_the_graph_are_converted() -> None:
    value = numpy_helper.from_array(np.array([2], np.float32), "value")
    nodes = [
        helper.make_node("Constant", [], ["two"], value=value),
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("ConstantOfShape", ["shape"], ["twos"], value=value),
        helper.make_node("Cast", ["shape"], ["size"], to=FLOAT),
        helper.make_node("Mul", ["two", "twos"], ["four"]),
        helper.make_node("Add", ["four", "size"], ["sum"]),
        helper.make_node("Mul", ["sum", "x"], ["y"]),
    ]
    model = _convert(nodes, [("x", FLOAT)])
    assert _run(model, x=np.ones(3, np.float16)).tolist() == [7, 7, 7]


def test_a_node_with_a_graph_of_its_own_is_refused() -> None:
    branch = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["z"])],
        "branch",
        [],
        [helper.make_tensor_value_info("z", FLOAT, None)],
    )
    node = helper.make_node("If", ["choice"], ["y"], "fork", then_branch=branch, else_branch=branch)
    with pytest.raises(ExportError, match=r"(?s)fork \(If\).*--precision fp32"):
        _convert([node], [("x", FLOAT), ("choice", TensorProto.BOOL)])


def test_a_node_that_nobody_knows_is_refused() -> None:
    node = helper.make_node("Frobnicate", ["x"], ["z"], domain="elsewhere")
    graph = helper.make_graph(
        [node, helper.make_node("Relu", ["z"], ["y"])],
        "graph",
        [helper.make_tensor_value_info("x", FLOAT, ["n"])],
        [helper.make_tensor_value_info("y", FLOAT, ["n"])],
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("elsewhere", 1)]
    model = ir.from_proto(helper.make_model(graph, opset_imports=opsets, ir_version=10))
    with pytest.raises(ExportError, match="unknown type"):
        convert_to_half(model, ())
