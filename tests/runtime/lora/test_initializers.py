"""Weights are found in ONNX files as the library onnx finds them."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from inpaintrt.errors import BundleIntegrityError
from inpaintrt.lora import read_initializers


def model(external: Path | None = None) -> onnx.ModelProto:
    random = np.random.default_rng(0)
    arrays = {
        "weight": random.standard_normal((3, 200)).astype(np.float32),
        "half": random.standard_normal((2, 3, 1, 1)).astype(np.float16),
        "scalar": np.float32(2.5),
        "shape": np.array([1, 2], np.int64),
    }
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in arrays.items()]
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"])
    made = helper.make_model(
        helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", [value], [], tensors)
    )
    if external is not None:
        onnx.save(made, external, save_as_external_data=True, location="w.data", size_threshold=1000)
    return made


@pytest.mark.parametrize("external", [False, True])
def test_weights_are_those_that_onnx_reads(tmp_path: Path, external: bool) -> None:
    path = tmp_path / "model.onnx"
    made = model(path if external else None)
    if not external:
        path.write_bytes(made.SerializeToString())
    found = read_initializers(path)
    assert found.keys() == {"weight", "half", "scalar"}
    assert found["weight"].external is external
    for tensor in onnx.load(path).graph.initializer:
        if tensor.name in found:
            place, expected = found[tensor.name], numpy_helper.to_array(tensor)
            assert (place.shape, place.dtype) == (expected.shape, expected.dtype)
            np.testing.assert_array_equal(place.read(), expected)


@pytest.mark.parametrize("content", [b"<html>", b"\x3a\x7f", b"\x3a" + b"\xff" * 12, b"\x3a"])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(BundleIntegrityError, match="is not an ONNX file"):
        read_initializers(path)
