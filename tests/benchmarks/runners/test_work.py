"""Counted operations against a count by hand, for one layer of each kind."""

import lzma
import sys
from pathlib import Path

import pytest
from onnx import ModelProto, TensorProto, helper, load_model_from_string, save

from benchmarks.odd import BUNDLE, demo_case
from inpaintrt.loading import load_bundle
from inpaintrt_bench.report.schema import Row, make_series
from inpaintrt_bench.runners.flops import count_operations, operations_of_model
from inpaintrt_bench.runners.work import count_work, try_count_work
from inpaintrt_bench.workers.ours import TimedEngine, paint

FLOAT = TensorProto.FLOAT


def model(
    node_type: str, inputs: dict[str, list[int | str]], weights: dict[str, list[int]], **attributes: object
) -> ModelProto:
    """A network of one node."""
    node = helper.make_node(node_type, [*inputs, *weights], ["y"], **attributes)
    graph = helper.make_graph(
        [node],
        "one",
        [helper.make_tensor_value_info(name, FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info("y", FLOAT, None)],
        [
            helper.make_tensor(name, FLOAT, dims, bytes(4 * _product(dims)), raw=True)
            for name, dims in weights.items()
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])


def _product(sizes: list[int]) -> int:
    result = 1
    for size in sizes:
        result *= size
    return result


def test_a_convolution() -> None:
    network = model("Conv", {"x": ["batch", 3, "h", "w"]}, {"w": [8, 3, 5, 5]}, pads=[2, 2, 2, 2])
    # 2 * 8 channels * 10 x 12 pixels, each of 3 * 5 * 5 products, for 2 images
    assert operations_of_model(network, {"x": (2, 3, 10, 12)}) == 2 * 2 * 8 * 10 * 12 * 75


def test_a_convolution_with_stride_and_groups() -> None:
    network = model("Conv", {"x": [1, 4, "h", "w"]}, {"w": [6, 2, 3, 3]}, strides=[2, 2], group=2)
    # without padding, 9 x 9 pixels become 4 x 4; each sees 2 channels of 3 * 3
    assert operations_of_model(network, {"x": (1, 4, 9, 9)}) == 2 * 6 * 4 * 4 * 18


def test_a_matrix_product_with_weights() -> None:
    network = model("MatMul", {"x": ["batch", "tokens", 16]}, {"w": [16, 32]})
    assert operations_of_model(network, {"x": (2, 77, 16)}) == 2 * 2 * 77 * 32 * 16


def test_a_matrix_product_of_attention() -> None:
    network = model("MatMul", {"q": [1, 8, "n", 40], "k": [1, 8, 40, "m"]}, {})
    assert operations_of_model(network, {"q": (1, 8, 64, 40), "k": (1, 8, 40, 77)}) == 2 * 8 * 64 * 77 * 40


@pytest.mark.parametrize(("transposed", "shape"), [(0, (4, 10)), (1, (10, 4))])
def test_a_general_matrix_product(transposed: int, shape: tuple[int, int]) -> None:
    network = model("Gemm", {"x": ["a", "b"]}, {"w": [10, 6]}, transA=transposed)
    assert operations_of_model(network, {"x": shape}) == 2 * 4 * 6 * 10


def test_weights_in_another_file_are_not_needed(tmp_path: Path) -> None:
    product = helper.make_node("MatMul", ["x", "w"], ["xw"])
    graph = helper.make_graph(
        [product, helper.make_node("Add", ["xw", "bias"], ["y"])],
        "two",
        [helper.make_tensor_value_info("x", FLOAT, ["n", 16])],
        [helper.make_tensor_value_info("y", FLOAT, None)],
        [
            helper.make_tensor("w", FLOAT, [16, 300], bytes(4 * 16 * 300), raw=True),
            helper.make_tensor("bias", FLOAT, [300], bytes(4 * 300), raw=True),
        ],
    )
    network = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    save(network, tmp_path / "model.onnx", save_as_external_data=True, location="weights")
    (tmp_path / "weights").unlink()
    assert count_operations(tmp_path / "model.onnx", {"x": (3, 16)}) == 2 * 3 * 300 * 16


def test_what_is_no_product_counts_nothing() -> None:
    assert operations_of_model(model("Relu", {"x": ["a", 4]}, {}), {"x": (2, 4)}) == 0


def test_a_missing_input_is_named() -> None:
    with pytest.raises(ValueError, match="'x'"):
        operations_of_model(model("Relu", {"x": ["a", 4]}, {}), {})


def test_work_grows_with_pixels_and_images(tmp_path: Path) -> None:
    one = count_work(BUNDLE, demo_case(tmp_path))
    four = count_work(BUNDLE, demo_case(tmp_path, batch=4))
    assert four["denoiser"].operations == pytest.approx(4 * one["denoiser"].operations, rel=0.01)
    assert four["vae_decoder"].runs == 4
    assert four["text_encoder"] == one["text_encoder"]


@pytest.mark.parametrize("sampler", ["ddim", "heun", "plms"])
def test_components_run_as_often_as_is_assumed(tmp_path: Path, sampler: str) -> None:
    case = demo_case(tmp_path, batch=2, sampler=sampler)
    loaded = load_bundle(BUNDLE)
    engines = {name: TimedEngine(engine) for name, engine in loaded.engines.items()}
    paint(type(loaded)(loaded.manifest, engines, loaded.tokenizers), case)
    assumed = {name: work.runs for name, work in count_work(BUNDLE, case).items()}
    assert {name: engine.runs for name, engine in engines.items()} == assumed


def test_without_a_bundle_there_is_nothing_to_count(tmp_path: Path) -> None:
    counted = try_count_work(None, demo_case(tmp_path), print)
    assert counted.add_to([Row(name="any")], None) == (Row(name="any"),)
    assert counted.notes == ()


def test_what_cannot_be_counted_is_a_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "inpaintrt_bench.runners.flops")
    monkeypatch.setitem(sys.modules, "onnxruntime.tools.symbolic_shape_infer", None)
    told: list[str] = []
    row = Row(name="any", series={"total": make_series([1.0])})
    counted = try_count_work(BUNDLE, demo_case(tmp_path), told.append)
    assert told == list(counted.notes)
    assert "Operations are not counted: ModuleNotFoundError" in told[0]
    assert "onnxruntime.tools.symbolic_shape_infer" in told[0]
    assert counted.add_to([row], None) == (row,)


def test_the_full_size_step_takes_what_pytorch_counts() -> None:
    packed = Path(__file__).parents[2] / "export" / "builds" / "sd15_step.onnx.xz"
    network = load_model_from_string(lzma.decompress(packed.read_bytes()))
    sizes = {"slots": 1, "rows": 2, "height": 64, "width": 64, "tokens": 77}
    shapes = {
        tensor.name: tuple(
            sizes[axis.dim_param] if axis.dim_param else axis.dim_value
            for axis in tensor.type.tensor_type.shape.dim
        )
        for tensor in network.graph.input
    }
    # torch.utils.flop_counter on diffusers' 9-channel UNet at 512 x 512: 0.8034e12 for each row
    assert operations_of_model(network, shapes) == pytest.approx(2 * 0.8034e12, rel=1e-3)
