from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from inpaintrt.bundle import Architecture, Dtype, TensorSpec
from inpaintrt.conditioning import step_outputs
from inpaintrt.errors import ExportError
from inpaintrt.families import SD, step_specs
from inpaintrt_export.step_graph import compose_step

CONTEXT_WIDTH = 3
RNG = np.random.default_rng(0)
WEIGHT = RNG.normal(size=(4, 9, 1, 1)).astype(np.float32)
ADDED = ("noise", "image_latents", "first_noise")


def plain_unet(element: int = TensorProto.FLOAT, channels: int = 9) -> onnx.ModelProto:
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
            helper.make_tensor_value_info("sample", element, ["batch", channels, "height", "width"]),
            helper.make_tensor_value_info("timestep", TensorProto.FLOAT, ["batch"]),
            helper.make_tensor_value_info(
                "encoder_hidden_states", element, ["batch", "tokens", CONTEXT_WIDTH]
            ),
        ],
        [helper.make_tensor_value_info("out_sample", element, ["batch", 4, "height", "width"])],
        [
            numpy_helper.from_array(WEIGHT[:, :channels].astype(dtype), "state"),
            numpy_helper.from_array(np.array([-1, 1, 1, 1]), "update"),
            numpy_helper.from_array(np.array([1, 2]), "axes"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def evaluate_unet(sample: NDArray[Any], timestep: NDArray[Any], context: NDArray[Any]) -> NDArray[Any]:
    weight = WEIGHT[:, : sample.shape[1], 0, 0].astype(np.float64)
    predicted: NDArray[Any] = np.einsum("oi,nihw->nohw", weight, sample)
    shift: NDArray[Any] = timestep + context.mean(axis=(1, 2))
    predicted += shift[:, None, None, None]
    return predicted


def inputs_of_step(dtype: Dtype = "float32", channels: int = 5) -> dict[str, TensorSpec]:
    architecture = Architecture(
        latent_channels=4,
        vae_scale_factor=8,
        latent_scale=0.18215,
        context_width=CONTEXT_WIDTH,
        prediction_type="epsilon",
        native_resolution=(64, 64),
        condition_channels=channels,
    )
    return step_specs(SD, architecture, dtype)


def random_inputs(
    slots: int, rows: int, height: int, width: int, channels: int = 5
) -> dict[str, NDArray[Any]]:
    sizes: Mapping[object, Any] = {
        "slots": slots,
        "rows": rows,
        "height": height,
        "width": width,
        "tokens": 5,
    }
    inputs: dict[str, NDArray[Any]] = {
        name: RNG.normal(size=[sizes.get(axis, axis) for axis in spec.shape]).astype(np.float32)
        for name, spec in inputs_of_step(channels=channels).items()
    }
    inputs["finite"][:] = 1
    inputs["guidance_rescale"][:] = 0
    return {**inputs, "row_slot": RNG.integers(slots, size=rows)}


def formula(inputs: dict[str, NDArray[Any]]) -> NDArray[Any]:
    """The step in float64, term by term."""
    state = inputs["state"].astype(np.float64)
    sample = state[:, 0]
    if "condition" in inputs:
        sample = np.concatenate([sample, inputs["condition"]], axis=1)
    eps = evaluate_unet(sample[inputs["row_slot"]], inputs["timestep"], inputs["context"])
    guided, own = (np.einsum("sn,nchw->schw", inputs[name], eps) for name in ("guidance", "prompt_rows"))
    phi = inputs["guidance_rescale"].astype(np.float64)
    deviations = [tensor.std(axis=(1, 2, 3), ddof=1) for tensor in (own, guided)]
    with np.errstate(all="ignore"):
        factor = np.where(phi > 0, phi * deviations[0] / deviations[1] + 1 - phi, 1)
    terms = (guided * factor[:, None, None, None], *(inputs[name] for name in ADDED))
    tensors = np.concatenate([state, *(term[:, None] for term in terms)], axis=1)
    product: NDArray[Any] = np.einsum("skj,sjchw->skchw", inputs["update"], tensors)
    free = inputs["mask"] >= inputs["threshold"][:, None, None, None]
    product[:, 0] = np.where(free, product[:, 0], product[:, -1])
    return product[:, :-1]


@pytest.fixture(scope="module")
def session() -> onnxruntime.InferenceSession:
    model = compose_step(plain_unet(), inputs_of_step())
    onnx.checker.check_model(model, full_check=True)
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


@pytest.mark.parametrize(
    ("slots", "rows", "height", "width"), [(1, 1, 8, 8), (1, 2, 9, 7), (3, 5, 1, 13), (4, 2, 16, 2)]
)
def test_step_is_the_formula(
    session: onnxruntime.InferenceSession, slots: int, rows: int, height: int, width: int
) -> None:
    inputs = random_inputs(slots, rows, height, width)
    result, _ = session.run(None, inputs)
    np.testing.assert_allclose(result, formula(inputs), rtol=1e-4, atol=1e-4)


def test_a_slot_does_not_depend_on_its_company(session: onnxruntime.InferenceSession) -> None:
    inputs = random_inputs(3, 4, 5, 6)
    inputs["row_slot"] = np.array([0, 0, 1, 2])
    inputs["guidance"] = np.array([[-6.5, 7.5, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], np.float32)
    before, _ = session.run(None, inputs)
    for name in ("state", "condition", "noise", "image_latents", "first_noise", "mask"):
        inputs[name][1:] = RNG.normal(size=inputs[name][1:].shape)
    after, _ = session.run(None, inputs)
    np.testing.assert_array_equal(before[0], after[0])
    assert np.abs(before[1:] - after[1:]).min(axis=(1, 2, 3, 4)).max() > 0


def test_guidance_is_rescaled_where_it_is_asked_for(session: onnxruntime.InferenceSession) -> None:
    inputs = random_inputs(3, 4, 5, 6)
    inputs["row_slot"] = np.array([0, 0, 1, 1])
    inputs["guidance"] = np.array([[-6.5, 9.5, 0, 0], [0, 0, -6.5, 9.5], [0, 0, 0, 0]], np.float32)
    inputs["prompt_rows"] = np.array([[0, 1, 0, 0], [0, 0, 0, 1], [0, 0, 0, 0]], np.float32)
    inputs["guidance_rescale"] = np.array([0.7, 0.0, 0.0], np.float32)
    result, _ = session.run(None, inputs)
    np.testing.assert_allclose(result, formula(inputs), rtol=1e-4, atol=1e-4)
    plain, _ = session.run(None, {**inputs, "guidance_rescale": np.zeros(3, np.float32)})
    assert np.abs(plain[0] - result[0]).max() > 0.1
    np.testing.assert_array_equal(plain[1:], result[1:])


def test_a_row_that_is_not_finite_counts_as_zero_and_is_noted(session: onnxruntime.InferenceSession) -> None:
    inputs = random_inputs(3, 3, 5, 6)
    inputs["row_slot"] = np.array([0, 1, 2])
    inputs["guidance"] = inputs["prompt_rows"] = np.eye(3, dtype=np.float32)
    inputs["finite"] = np.array([1, 1, 0], np.float32)
    expected, _ = session.run(None, inputs)
    inputs["context"][1, 0, 0] = np.nan
    result, finite = session.run(None, inputs)
    np.testing.assert_array_equal(finite, [1, 0, 0])
    np.testing.assert_array_equal(result[[0, 2]], expected[[0, 2]])
    assert np.isfinite(result).all()


def test_a_unet_without_a_condition_has_no_such_input() -> None:
    model = plain_unet(channels=4)
    composed = compose_step(model, inputs_of_step(channels=0))
    onnx.checker.check_model(composed, full_check=True)
    session = onnxruntime.InferenceSession(composed.SerializeToString(), providers=["CPUExecutionProvider"])
    assert "condition" not in {value.name for value in session.get_inputs()}
    inputs = random_inputs(2, 3, 4, 5, channels=0)
    np.testing.assert_allclose(session.run(None, inputs)[0], formula(inputs), rtol=1e-4, atol=1e-4)


def test_state_stays_float32_around_a_half_precision_unet() -> None:
    model = compose_step(plain_unet(TensorProto.FLOAT16), inputs_of_step("float16"))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    inputs = random_inputs(2, 3, 4, 5)
    inputs["guidance"] *= 0
    inputs["state"] += 1000 + 2**-10  # a difference that float16 cannot hold
    result, _ = session.run(None, {**inputs, "context": inputs["context"].astype(np.float16)})
    np.testing.assert_allclose(result, formula(inputs), rtol=1e-6, atol=2e-3)


def test_inputs_and_output_are_those_of_the_manifest(session: onnxruntime.InferenceSession) -> None:
    described = {**inputs_of_step(), **step_outputs(4)}
    found = {value.name: tuple(value.shape) for value in (*session.get_inputs(), *session.get_outputs())}
    assert found == {name: spec.shape for name, spec in described.items()}
    assert [value.name for value in session.get_inputs()] == list(inputs_of_step())


def test_unet_with_other_names_is_refused() -> None:
    model = plain_unet()
    model.graph.input[1].name = "t"
    with pytest.raises(ExportError, match="no input 'timestep'"):
        compose_step(model, inputs_of_step())


def test_external_weights_are_referred_to_and_not_loaded(tmp_path: Path) -> None:
    onnx.save(plain_unet(), tmp_path / "model.onnx", save_as_external_data=True, size_threshold=100)
    data = next(path for path in tmp_path.iterdir() if path.name != "model.onnx")
    plain = onnx.load(tmp_path / "model.onnx", load_external_data=False)
    onnx.save(compose_step(plain, inputs_of_step()), tmp_path / "model.onnx")
    (weight,) = (
        tensor
        for tensor in onnx.load(tmp_path / "model.onnx", load_external_data=False).graph.initializer
        if tensor.name.endswith("/state")
    )
    assert not weight.raw_data
    assert weight.external_data[0].value == data.name
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    inputs = random_inputs(2, 3, 4, 5)
    np.testing.assert_allclose(session.run(None, inputs)[0], formula(inputs), rtol=1e-4, atol=1e-4)
