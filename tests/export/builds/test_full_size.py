"""The parser of TensorRT-RTX reads the step graph of the real architecture."""

import lzma
import sys
from pathlib import Path

import onnx
import pytest

from inpaintrt.backends.tensorrt_library import PlanLibrary
from inpaintrt_export.builds.compiler import parse_network

# What `inpaintrt export synthetic:sd15-inpaint` writes for the denoiser, without the file of its weights.
GRAPH = Path(__file__).with_name("sd15_step.onnx.xz")
MIN_LAYERS = 5000


@pytest.mark.skipif(sys.platform != "linux", reason="the weights' file is sparse, as Linux keeps it")
def test_the_full_size_step_graph_is_read(rtx: PlanLibrary, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(lzma.decompress(GRAPH.read_bytes()))
    _write_empty_weights(path)
    with rtx.listen() as reports:
        builder = rtx.module.Builder(rtx.logger)
        network = parse_network(rtx, builder, path, reports)
    assert network.num_layers > MIN_LAYERS
    assert reports.messages == []


def _write_empty_weights(path: Path) -> None:
    """Zeros in the place of the weights, which take no room on the disk."""
    ends: dict[str, int] = {}
    for tensor in onnx.load(path, load_external_data=False).graph.initializer:
        place = {entry.key: entry.value for entry in tensor.external_data}
        if place:
            end = int(place["offset"]) + int(place["length"])
            ends[place["location"]] = max(end, ends.get(place["location"], 0))
    assert ends
    for name, size in ends.items():
        with (path.parent / name).open("wb") as stream:
            stream.truncate(size)
