import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from inpaintrt.bundle import PRECISIONS
from inpaintrt.errors import ParityError
from inpaintrt_bench.processes import run_alone
from inpaintrt_export.memory import peak_bytes, resident_bytes
from inpaintrt_export.networks import vae_decoder_network
from inpaintrt_export.parity import compare, evaluate, measure, open_session
from inpaintrt_export.precision.vae import HALF_TOLERANCE, choose_vae_precision, half_error
from inpaintrt_export.sources.synthetic import SyntheticSource
from inpaintrt_export.tracing import OPSET

SIDE, MATRICES = 1024, 32
CASES = [{"batch": 1, "height": 5, "width": 3}, {"batch": 2, "height": 4, "width": 4}]


def load_vae(seed: int = 0) -> Any:
    return SyntheticSource("synthetic:tiny", seed).load("vae")


def test_figures_are_the_largest_difference_and_the_ratio_of_norms() -> None:
    reference = np.array([3.0, 4.0], np.float32)
    parity = measure("case", np.array([3.0, 4.5], np.float32), reference)
    assert parity.case == "case"
    assert parity.max_absolute_error == pytest.approx(0.5)
    assert parity.relative_error == pytest.approx(0.1)


def test_reference_of_zeros_gives_a_number() -> None:
    zeros = np.zeros(3, np.float32)
    assert measure("case", zeros, zeros).relative_error == 0
    assert measure("case", zeros + 1, zeros).relative_error > 1


def test_other_shape_is_an_error() -> None:
    with pytest.raises(ParityError, match=r"(?s)another shape.*\(2,\).*\(3,\)"):
        measure("case", np.zeros(2, np.float32), np.zeros(3, np.float32))


def test_graph_of_the_same_weights_passes(tiny_bundle: Path) -> None:
    references = evaluate(vae_decoder_network(load_vae(), torch.float32), CASES)
    results = compare(tiny_bundle / "vae_decoder" / "model.onnx", references, "fp32")
    assert [result.case for result in results] == ["batch=1 height=5 width=3", "batch=2 height=4 width=4"]
    assert all(result.relative_error <= PRECISIONS["fp32"].tolerance for result in results)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_graph_of_other_weights_fails(tiny_bundle: Path, precision: Any) -> None:
    references = evaluate(vae_decoder_network(load_vae(seed=1), torch.float32), CASES)
    with pytest.raises(ParityError, match=r"(?s)vae_decoder does not compute.*batch=1 height=5 width=3"):
        compare(tiny_bundle / "vae_decoder" / "model.onnx", references, precision)


def test_graph_that_gives_nan_fails(tiny_bundle: Path) -> None:
    (reference,) = evaluate(vae_decoder_network(load_vae(), torch.float32), CASES[:1])
    reference.inputs["latent_sample"][0, 0, 0, 0] = np.nan
    with pytest.raises(ParityError, match="nan"):
        compare(tiny_bundle / "vae_decoder" / "model.onnx", [reference], "fp32")


def test_half_graph_passes_half_tolerance_only(tiny_half_bundle: Path) -> None:
    path = tiny_half_bundle / "vae_decoder" / "model.onnx"
    references = evaluate(vae_decoder_network(load_vae(), torch.float32), CASES)
    compare(path, references, "fp16")
    with pytest.raises(ParityError):
        compare(path, references, "fp32")


def _run_halves(path: Path) -> tuple[int, int]:
    session = open_session(path, sparing=True)
    sample = np.ones((1, SIDE), np.float16)
    before = resident_bytes()
    session.run(None, {"sample": sample})
    return before, peak_bytes() or 0


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells peaks of memory")
def test_halves_are_not_all_widened_at_once(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(_product_of_halves(), path, save_as_external_data=True, location="model.onnx.data")
    weights = (tmp_path / "model.onnx.data").stat().st_size
    before, peak = run_alone(_run_halves, path)
    assert weights > 60e6
    assert (
        peak - before < 2 * weights
    )  # in float32 alone they take that much, and the mapped file comes on top


def _product_of_halves() -> onnx.ModelProto:
    matrices = [np.full((SIDE, SIDE), 1 / SIDE, np.float16) for _ in range(MATRICES)]
    names = ["sample", *(f"product_{index}" for index in range(MATRICES))]
    nodes = [
        helper.make_node("MatMul", [names[index], f"matrix_{index}"], [names[index + 1]])
        for index in range(MATRICES)
    ]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT16, (1, SIDE)) for name in (names[0], names[-1])
    ]
    weights = [numpy_helper.from_array(matrix, f"matrix_{index}") for index, matrix in enumerate(matrices)]
    graph = helper.make_graph(nodes, "product", ends[:1], ends[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)


def test_vae_within_the_tolerance_computes_in_half() -> None:
    vae = load_vae()
    assert 0 < half_error(vae) < HALF_TOLERANCE
    assert choose_vae_precision(vae, "fp16") == "fp16"
    assert choose_vae_precision(vae, "fp32") == "fp32"
    assert vae.dtype == torch.float32


def test_vae_that_overflows_in_half_stays_in_float32() -> None:
    vae = load_vae()
    with torch.no_grad():
        vae.decoder.mid_block.resnets[0].conv2.weight.mul_(1e6)
        vae.decoder.mid_block.resnets[1].conv2.weight.mul_(1e6)
    assert half_error(vae) == float("inf")
    assert choose_vae_precision(vae, "fp16") == "fp32"


def test_vae_that_is_merely_inaccurate_in_half_stays_in_float32() -> None:
    vae = load_vae()
    with torch.no_grad():
        vae.decoder.conv_out.weight.mul_(30)
    assert HALF_TOLERANCE < half_error(vae) < float("inf")
    assert choose_vae_precision(vae, "fp16") == "fp32"


def test_emulated_half_convolutions_are_half_convolutions() -> None:
    vae = load_vae()
    emulated = half_error(vae)
    images = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(1)) * 2 - 1
    with torch.no_grad():
        expected = vae.decode(vae.encode(images).latent_dist.mode()).sample
        half = torch.nn.Module.half(vae)
        decoded = half.decode(half.encode(images.half()).latent_dist.mode()).sample.float()
    native = float((decoded - expected).square().mean().sqrt())
    assert 0.5 < emulated / native < 2
