from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from inpaintrt.errors import ExportError
from inpaintrt_export.step_graph import compose_step, step_inputs, step_outputs

CONTEXT_WIDTH = 3
RNG = np.random.default_rng(0)
WEIGHT = RNG.normal(size=(4, 9, 1, 1)).astype(np.float32)


def plain_unet(element: int = TensorProto.FLOAT) -> onnx.ModelProto:
    """out_sample = convolution(sample) + timestep + mean(encoder_hidden_states), with names that collide."""
    nodes = [
        helper.make_node("Conv", ["sample", "state"], ["condition"]),
        helper.make_node("Cast", ["timestep"], ["time"], to=element),
        helper.make_node("Reshape", ["time", "update"], ["noise"]),
        helper.make_node("ReduceMean", ["encoder_hidden_states", "axes"], ["mean"]),
        helper.make_node("Reshape", ["mean", "update"], ["guidance"]),
        helper.make_node("Add", ["condition", "noise"], ["context"]),
        helper.make_node("Add", ["context", "guidance"], ["out_sample"]),
    ]
    dtype = helper.tensor_dtype_to_np_dtype(element)
    graph = helper.make_graph(
        nodes,
        "unet",
        [
            helper.make_tensor_value_info("sample", element, ["batch", 9, "height", "width"]),
            helper.make_tensor_value_info("timestep", TensorProto.FLOAT, ["batch"]),
            helper.make_tensor_value_info(
                "encoder_hidden_states", element, ["batch", "tokens", CONTEXT_WIDTH]
            ),
        ],
        [helper.make_tensor_value_info("out_sample", element, ["batch", 4, "height", "width"])],
        [
            numpy_helper.from_array(WEIGHT.astype(dtype), "state"),
            numpy_helper.from_array(np.array([-1, 1, 1, 1]), "update"),
            numpy_helper.from_array(np.array([1, 2]), "axes"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def evaluate_unet(sample: NDArray[Any], timestep: NDArray[Any], context: NDArray[Any]) -> NDArray[Any]:
    predicted: NDArray[Any] = np.einsum("oi,nihw->nohw", WEIGHT[:, :, 0, 0].astype(np.float64), sample)
    shift: NDArray[Any] = timestep + context.mean(axis=(1, 2))
    predicted += shift[:, None, None, None]
    return predicted


def random_inputs(slots: int, rows: int, height: int, width: int, tokens: int = 5) -> dict[str, NDArray[Any]]:
    shapes = {
        "state": (slots, 6, 4, height, width),
        "condition": (slots, 5, height, width),
        "timestep": (rows,),
        "context": (rows, tokens, CONTEXT_WIDTH),
        "guidance": (slots, rows),
        "update": (slots, 6, 8),
        "noise": (slots, 4, height, width),
    }
    inputs = {name: RNG.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    return {**inputs, "row_slot": RNG.integers(slots, size=rows)}


def four_lines(inputs: dict[str, NDArray[Any]]) -> NDArray[Any]:
    state = inputs["state"].astype(np.float64)
    sample = np.concatenate([state[:, 0], inputs["condition"]], axis=1)[inputs["row_slot"]]
    eps = evaluate_unet(sample, inputs["timestep"], inputs["context"])
    guided = np.einsum("sn,nchw->schw", inputs["guidance"], eps)
    tensors = np.concatenate([state, guided[:, None], inputs["noise"][:, None]], axis=1)
    next_state: NDArray[Any] = np.einsum("skj,sjchw->skchw", inputs["update"], tensors)
    return next_state


@pytest.fixture(scope="module")
def session() -> onnxruntime.InferenceSession:
    model = compose_step(plain_unet(), step_inputs(CONTEXT_WIDTH, "float32"))
    onnx.checker.check_model(model, full_check=True)
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


@pytest.mark.parametrize(
    ("slots", "rows", "height", "width"), [(1, 1, 8, 8), (1, 2, 9, 7), (3, 5, 1, 13), (4, 2, 16, 2)]
)
def test_step_is_the_four_lines(
    session: onnxruntime.InferenceSession, slots: int, rows: int, height: int, width: int
) -> None:
    inputs = random_inputs(slots, rows, height, width)
    (result,) = session.run(None, inputs)
    np.testing.assert_allclose(result, four_lines(inputs), rtol=1e-4, atol=1e-4)


def test_a_slot_does_not_depend_on_its_company(session: onnxruntime.InferenceSession) -> None:
    inputs = random_inputs(3, 4, 5, 6)
    inputs["row_slot"] = np.array([0, 0, 1, 2])
    inputs["guidance"] = np.array([[-6.5, 7.5, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], np.float32)
    (before,) = session.run(None, inputs)
    for name in ("state", "condition", "noise"):
        inputs[name][1:] = RNG.normal(size=inputs[name][1:].shape)
    (after,) = session.run(None, inputs)
    np.testing.assert_array_equal(before[0], after[0])
    assert np.abs(before[1:] - after[1:]).min(axis=(1, 2, 3, 4)).max() > 0


def test_state_stays_float32_around_a_half_precision_unet() -> None:
    model = compose_step(plain_unet(TensorProto.FLOAT16), step_inputs(CONTEXT_WIDTH, "float16"))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    inputs = random_inputs(2, 3, 4, 5)
    inputs["guidance"] *= 0
    inputs["state"] += 1000 + 2**-10  # a difference that float16 cannot hold
    (result,) = session.run(None, {**inputs, "context": inputs["context"].astype(np.float16)})
    np.testing.assert_allclose(result, four_lines(inputs), rtol=1e-6, atol=2e-3)


def test_inputs_and_output_are_those_of_the_manifest(session: onnxruntime.InferenceSession) -> None:
    described = {**step_inputs(CONTEXT_WIDTH, "float32"), **step_outputs()}
    found = {value.name: tuple(value.shape) for value in (*session.get_inputs(), *session.get_outputs())}
    assert found == {name: spec.shape for name, spec in described.items()}
    assert [value.name for value in session.get_inputs()] == list(step_inputs(CONTEXT_WIDTH, "float32"))


def test_unet_with_other_names_is_refused() -> None:
    model = plain_unet()
    model.graph.input[1].name = "t"
    with pytest.raises(ExportError, match="no input 'timestep'"):
        compose_step(model, step_inputs(CONTEXT_WIDTH, "float32"))


def test_external_weights_are_referred_to_and_not_loaded(tmp_path: Path) -> None:
    onnx.save(plain_unet(), tmp_path / "model.onnx", save_as_external_data=True, size_threshold=100)
    data = next(path for path in tmp_path.iterdir() if path.name != "model.onnx")
    plain = onnx.load(tmp_path / "model.onnx", load_external_data=False)
    onnx.save(compose_step(plain, step_inputs(CONTEXT_WIDTH, "float32")), tmp_path / "model.onnx")
    (weight,) = (
        tensor
        for tensor in onnx.load(tmp_path / "model.onnx", load_external_data=False).graph.initializer
        if tensor.name.endswith("/state")
    )
    assert not weight.raw_data
    assert weight.external_data[0].value == data.name
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    inputs = random_inputs(2, 3, 4, 5)
    np.testing.assert_allclose(session.run(None, inputs)[0], four_lines(inputs), rtol=1e-4, atol=1e-4)
