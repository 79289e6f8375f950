"""What goes into an engine is checked, and its failures have names."""

from pathlib import Path

import msgspec
import numpy as np
import pytest

from inpaintrt.backends import backend_names, check_inputs, open_engine
from inpaintrt.backends.onnxruntime import OnnxRuntimeEngine
from inpaintrt.bundle import AxisRange, TensorSpec
from inpaintrt.errors import EngineInputError, EngineRunError, EngineUnavailableError, ParameterError
from runtime.networks import plain_build, plain_engine

SPECS = {
    "sample": TensorSpec(
        dtype="float32", shape=("batch", 9, "height"), ranges={"batch": AxisRange(min=1, max=4)}
    ),
    "ids": TensorSpec(dtype="int64", shape=("batch",)),
}


def _arrays(batch: int = 2, channels: int = 9, ids: int = 2) -> dict[str, np.ndarray]:
    return {"sample": np.zeros((batch, channels, 3), np.float32), "ids": np.zeros(ids, np.int64)}


def test_fitting_inputs_pass() -> None:
    check_inputs(SPECS, _arrays())


def test_a_missing_input_is_named() -> None:
    with pytest.raises(EngineInputError, match=r"(?s)received: ids.*expected: ids, sample"):
        check_inputs(SPECS, {"ids": np.zeros(2, np.int64)})


def test_another_dtype_is_named() -> None:
    with pytest.raises(EngineInputError, match=r"(?s)'ids'.*int32.*int64"):
        check_inputs(SPECS, {**_arrays(), "ids": np.zeros(2, np.int32)})


@pytest.mark.parametrize("arrays", [_arrays(channels=4), _arrays(batch=5, ids=5), _arrays(ids=3)])
def test_another_shape_is_named(arrays: dict[str, np.ndarray]) -> None:
    with pytest.raises(EngineInputError, match=r"(?s)shape.*received.*expected.*batch"):
        check_inputs(SPECS, arrays)


def test_another_number_of_axes_is_named() -> None:
    with pytest.raises(EngineInputError, match="shape"):
        check_inputs(SPECS, {**_arrays(), "ids": np.zeros((2, 2), np.int64)})


def _inputs() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    return {
        "sample": random.standard_normal((2, 9, 4, 5)).astype(np.float32),
        "timestep": np.array([1, 2], np.float32),
        "encoder_hidden_states": random.standard_normal((2, 7, 12)).astype(np.float32),
    }


def test_an_engine_runs_and_closes(tmp_path: Path) -> None:
    engine = plain_engine(tmp_path)
    assert engine.run(_inputs())["out_sample"].shape == (2, 4, 4, 5)
    with pytest.raises(EngineInputError):
        engine.run({})
    engine.close()
    with pytest.raises(EngineRunError, match="closed"):
        engine.run(_inputs())


def test_a_failure_while_running_has_a_name_and_prints_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    engine = plain_engine(tmp_path)
    inputs = {**_inputs(), "sample": np.zeros((2, 9, 0, 0), np.float32)}
    with pytest.raises(EngineRunError, match="ONNX Runtime"):
        engine.run({**inputs, "encoder_hidden_states": np.zeros((3, 7, 12), np.float32)[:2, :0]})
    assert capfd.readouterr() == ("", "")


def test_a_file_that_is_no_network_is_refused(tmp_path: Path) -> None:
    (tmp_path / "unet.onnx").write_bytes(b"not a network")
    with pytest.raises(EngineUnavailableError, match=r"unet\.onnx"):
        OnnxRuntimeEngine(tmp_path / "unet.onnx", plain_build(TensorSpec(dtype="float32", shape=("batch",))))


def test_a_network_that_the_manifest_does_not_describe_is_refused(tmp_path: Path) -> None:
    plain_engine(tmp_path)
    build = plain_build(TensorSpec(dtype="float32", shape=("batch",)))
    renamed = {f"{name}_": spec for name, spec in build.inputs.items()}
    with pytest.raises(EngineUnavailableError, match="manifest describes"):
        OnnxRuntimeEngine(tmp_path / "unet.onnx", msgspec.structs.replace(build, inputs=renamed))


def test_an_unknown_backend_lists_the_known(tmp_path: Path) -> None:
    build = plain_build(TensorSpec(dtype="float32", shape=("batch",)))
    with pytest.raises(EngineUnavailableError, match=", ".join(backend_names())):
        open_engine("abacus", tmp_path, build)


@pytest.mark.parametrize("options", [{"speed": 9}, {"threads": 0}, {"threads": 1.5}, {"threads": True}])
def test_options_are_checked(tmp_path: Path, options: dict[str, object]) -> None:
    plain_engine(tmp_path)
    build = plain_build(TensorSpec(dtype="float32", shape=("batch",)))
    with pytest.raises(ParameterError):
        open_engine("onnxruntime", tmp_path, build, options)


def test_threads_do_not_change_the_result(tmp_path: Path) -> None:
    plain_engine(tmp_path)
    build = plain_build(TensorSpec(dtype="float32", shape=("batch",)))
    one, two = (open_engine("onnxruntime", tmp_path, build, {"threads": count}) for count in (1, 2))
    np.testing.assert_array_equal(one.run(_inputs())["out_sample"], two.run(_inputs())["out_sample"])
