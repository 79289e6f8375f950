"""The tracer on a network of a few operations."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from inpaintrt.bundle import TensorSpec
from inpaintrt.errors import ExportError
from inpaintrt_export import tracing
from inpaintrt_export.networks import Network
from inpaintrt_export.tracing import example_inputs, trace


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


def test_network_that_cannot_be_traced_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="cannot trace the part"):
        trace(network(Branch()), tmp_path / "part" / "model.onnx")


def test_examples_keep_within_their_limits() -> None:
    examples = example_inputs(network(Scale()), {"batch": 50}, torch.Generator().manual_seed(0))
    assert examples["count"].dtype == torch.int64
    assert 0 <= examples["count"].min() < examples["count"].max() < 50
    assert examples["sample"].shape == (50, 300)
    assert 0.9 < examples["sample"].std() < 1.1
