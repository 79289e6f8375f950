"""The tracer on a network of a few operations."""

import gc
import weakref
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from inpaintrt.bundle import TensorSpec
from inpaintrt.errors import ExportError
from inpaintrt_export import tracing
from inpaintrt_export.families import SD
from inpaintrt_export.initializers import WeightPlaces, check_places
from inpaintrt_export.networks import Network, text_encoder_network
from inpaintrt_export.sources.synthetic import SyntheticSource
from inpaintrt_export.tracing import example_inputs, trace
from inpaintrt_export.weights import name_weights


class Scale(nn.Module):
    """Adds a learned vector, weighted by whole numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.vector = nn.Parameter(torch.linspace(0, 1, 300))

    def forward(self, sample: Tensor, count: Tensor) -> Tensor:
        return sample + self.vector * count[:, None]


class Branch(Scale):
    """Decides by its input's values, which no graph can follow."""

    def forward(self, sample: Tensor, count: Tensor) -> Tensor:
        return sample if sample.sum() > 0 else -sample


def network(module: nn.Module) -> Network:
    return Network(
        module=module.eval(),
        inputs={
            "sample": TensorSpec(dtype="float32", shape=("batch", 300)),
            "count": TensorSpec(dtype="int64", shape=("batch",)),
        },
        outputs={"sum": TensorSpec(dtype="float32", shape=("batch", 300))},
        traced_sizes={"batch": 2},
        limits={"count": "batch"},
    )


@pytest.mark.parametrize("limit", [0, 2**20])
def test_weights_lie_beside_the_graph_when_they_are_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    monkeypatch.setattr(tracing, "EMBEDDED_WEIGHTS_LIMIT", limit)
    trace(network(Scale()), tmp_path / "part" / "model.onnx")
    names = sorted(path.name for path in (tmp_path / "part").iterdir())
    assert names == ["model.onnx", *(["model.onnx.data"] if limit == 0 else [])]
    path = tmp_path / "part" / "model.onnx"
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    inputs = example_inputs(network(Scale()), {"batch": 5}, torch.Generator().manual_seed(1))
    (found,) = session.run(None, {name: value.numpy() for name, value in inputs.items()})
    np.testing.assert_allclose(found, Scale()(*inputs.values()).detach(), rtol=1e-6)
    graph = onnx.load(path, load_external_data=False).graph
    assert [axis.dim_param for axis in graph.output[0].type.tensor_type.shape.dim] == ["batch", ""]


class Layers(nn.Module):
    """A matrix that is transposed in the graph, one that is not, one that nothing reads, and a gain."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(300, 300, bias=False)
        self.gain = nn.Parameter(torch.linspace(1, 2, 300))
        self.matrix = nn.Parameter(torch.randn(300, 300))
        self.unread = nn.Linear(3, 3, bias=False)

    def forward(self, sample: Tensor, count: Tensor) -> Tensor:
        mixed = self.linear(sample[:, None])[:, 0]
        result: Tensor = (mixed @ self.matrix) * self.gain * count[:, None]
        return result


class Twice(Layers):
    """Reads a matrix as it is, and transposed."""

    def forward(self, sample: Tensor, count: Tensor) -> Tensor:
        return super().forward(sample, count) + sample @ self.linear.weight


def test_the_graph_s_places_of_weights_are_known(tmp_path: Path) -> None:
    module = Layers()
    places = trace(network(module), tmp_path / "part" / "model.onnx")
    graph = onnx.load(tmp_path / "part" / "model.onnx").graph
    held = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    assert places.initializers.keys() == {"linear.weight", "gain", "matrix", "unread.weight"}
    assert places.initializers["unread.weight"] == ""
    assert (places.transposed, places.lost) == (("linear.weight",), ())
    np.testing.assert_array_equal(held[places.initializers["linear.weight"]], module.linear.weight.detach().T)
    np.testing.assert_array_equal(held[places.initializers["matrix"]], module.matrix.detach())
    np.testing.assert_array_equal(held[places.initializers["gain"]], module.gain.detach())


def test_a_matrix_that_is_read_twice_has_one_place(tmp_path: Path) -> None:
    places = trace(network(Twice()), tmp_path / "part" / "model.onnx")
    assert places.lost == places.transposed == ()
    assert places.initializers["linear.weight"] == "linear.weight"


@pytest.mark.parametrize("name", ["matrix", "other"])
def test_a_matrix_whose_numbers_are_nowhere_is_lost(name: str) -> None:
    held = ir.tensor(np.zeros((300, 300), np.float32), name=name)
    value = ir.Value(name=name, const_value=held)
    node = ir.node("Identity", [value])
    graph = ir.Graph([], node.outputs, nodes=[node], initializers=[value])
    places = check_places(graph, Layers(), {"matrix": ["matrix"], "gain": ["gain"]})
    assert (places.initializers, places.lost) == ({}, ("matrix",))
    assert name_weights("vae_decoder", places, "") == {}
    with pytest.raises(ExportError, match=r"(?s)text_encoder does not hold every weight.*matrix"):
        name_weights("text_encoder", places, "")


def test_weights_are_named_as_in_checkpoints() -> None:
    names = {"encoder.encoder.layers.0.mlp.fc1.weight": "val_1", "final_layer_norm.bias": "b"}
    places = WeightPlaces({**names, "encoder.text_projection.weight": ""}, tuple(names)[:1])
    found = name_weights("text_encoder_2", places, "text/")
    assert found["weights"] == {
        "text_model.encoder.layers.0.mlp.fc1.weight": "text/val_1",
        "text_model.final_layer_norm.bias": "text/b",
        "text_projection.weight": "",
    }
    assert found["transposed"] == ("text_model.encoder.layers.0.mlp.fc1.weight",)


def test_a_network_s_matrices_are_freed_with_it(tmp_path: Path) -> None:
    encoder = SyntheticSource("synthetic:tiny", 0).load("text_encoder")
    matrices = {
        name: weakref.ref(weight)
        for name, weight in encoder.named_parameters()
        if name.endswith("proj.weight")
    }
    trace(text_encoder_network(encoder, torch.float32, SD), tmp_path / "part" / "model.onnx")
    del encoder
    gc.collect()
    assert matrices
    assert [name for name, matrix in matrices.items() if matrix() is not None] == []


def test_network_that_cannot_be_traced_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="cannot trace the part"):
        trace(network(Branch()), tmp_path / "part" / "model.onnx")


def test_examples_keep_within_their_limits() -> None:
    examples = example_inputs(network(Scale()), {"batch": 50}, torch.Generator().manual_seed(0))
    assert examples["count"].dtype == torch.int64
    assert 0 <= examples["count"].min() < examples["count"].max() < 50
    assert examples["sample"].shape == (50, 300)
    assert 0.9 < examples["sample"].std() < 1.1
