"""ONNX Runtime on buffers of our own; the CUDA provider itself needs a GPU."""

import sys
import threading
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray

from inpaintrt.backends import onnxruntime_cuda, open_engines
from inpaintrt.backends.onnxruntime_cuda import (
    OrtNetwork,
    check_placement,
    check_start,
    provider_options,
)
from inpaintrt.bundle import Manifest, choose_builds, load_manifest, network_digest
from inpaintrt.errors import EngineInputError, EngineRunError, EngineUnavailableError, ParameterError
from inpaintrt.lora import Weights, changed_weights, open_loras
from lora_files import save_lora
from runtime.backends.host_device import HostDevice

GPU = "CUDAExecutionProvider"
CPU = "CPUExecutionProvider"


def _network(bundle: Path, name: str, provider: str = CPU, weights: Weights | None = None) -> OrtNetwork:
    exported = load_manifest(bundle).exported[name]
    return OrtNetwork(
        bundle / exported.file,
        exported,
        HostDevice(),
        provider=provider,
        provider_options={},
        row_buckets=(1, 2, 4),
        weights=weights,
    )


def _encode(network: OrtNetwork) -> NDArray[np.float32]:
    ids, skip = np.arange(77)[None] * 3, np.zeros(1, np.int64)
    output = np.empty((1, 77, 16), np.float32)
    tensors: dict[str, NDArray[Any]] = {"input_ids": ids, "clip_skip": skip, "last_hidden_state": output}
    addresses = {name: tensor.ctypes.data for name, tensor in tensors.items()}
    network.bind({"input_ids": ids.shape, "clip_skip": skip.shape}, addresses)()
    return output


def test_weights_that_loras_change_take_the_place_of_those_in_the_file(
    tiny_bundle: Path, tmp_path: Path
) -> None:
    lora = tmp_path / "a.safetensors"
    save_lora(lora, {"lora_te_text_model_encoder_layers_0_mlp_fc1.diff": torch.ones(32, 16)})
    manifest = load_manifest(tiny_bundle)
    weights = changed_weights(tiny_bundle, manifest, manifest.exported, open_loras([(lora, 0.1)]))
    found = _encode(_network(tiny_bundle, "text_encoder", weights=weights["text_encoder"]))
    inputs = {"input_ids": np.arange(77)[None] * 3, "clip_skip": np.zeros(1, np.int64)}
    engines = open_engines("onnxruntime", tiny_bundle, manifest, {}, open_loras([(lora, 0.1)]))
    np.testing.assert_allclose(found, engines["text_encoder"].run(inputs)["last_hidden_state"], atol=1e-5)
    assert np.abs(found - _encode(_network(tiny_bundle, "text_encoder"))).max() > 0.1


def test_a_network_on_one_provider_passes(tiny_bundle: Path) -> None:
    network = _network(tiny_bundle, "denoiser")
    assert network.fit({"timestep": (3,), "guidance": (2, 3)}) == {"timestep": (4,), "guidance": (2, 4)}


def test_nodes_on_another_provider_are_named() -> None:
    nodes = [(GPU, "Conv", "first"), (CPU, "Attention", "unet/attention"), (CPU, "Erf", "")]
    with pytest.raises(EngineUnavailableError) as caught:
        check_placement(nodes, GPU)
    assert caught.value.received == (
        f"unet/attention (Attention) on {CPU}, a node without a name (Erf) on {CPU}"
    )


def test_a_long_list_is_cut() -> None:
    nodes = [(CPU, "Conv", f"node {index}") for index in range(9)]
    with pytest.raises(EngineUnavailableError, match=r"node 4 \(Conv\) on \w+ and 4 more"):
        check_placement(nodes, GPU)


def test_arithmetic_on_shapes_may_be_anywhere() -> None:
    check_placement([(CPU, "Shape", "a"), (CPU, "Gather", "b"), (GPU, "Conv", "c")], GPU)


def test_more_rows_than_asked_for_are_refused(tiny_bundle: Path) -> None:
    with pytest.raises(EngineInputError, match=r"(?s)5 rows.*at most 4.*max_rows"):
        _network(tiny_bundle, "denoiser").fit({"timestep": (5,)})


def test_a_failing_run_has_a_name(tiny_bundle: Path) -> None:
    network = _network(tiny_bundle, "text_encoder")
    ids, skip = np.full((1, 77), 10**6, np.int64), np.zeros(1, np.int64)
    output = np.empty((1, 77, 16), np.float32)
    addresses = {
        "input_ids": ids.ctypes.data,
        "clip_skip": skip.ctypes.data,
        "last_hidden_state": output.ctypes.data,
    }
    run = network.bind({"input_ids": ids.shape, "clip_skip": skip.shape}, addresses)
    with pytest.raises(EngineRunError, match="ONNX Runtime"):
        run()


@pytest.mark.skipif(GPU in onnxruntime.get_available_providers(), reason="onnxruntime-gpu is installed")
def test_an_onnxruntime_without_the_provider_says_what_to_install(tiny_bundle: Path) -> None:
    with pytest.raises(EngineUnavailableError, match=r"(?s)no CUDA provider.*inpaintrt\[cuda\]"):
        open_engines("onnxruntime-cuda", tiny_bundle, load_manifest(tiny_bundle), {})


@pytest.mark.skipif(GPU in onnxruntime.get_available_providers(), reason="onnxruntime-gpu is installed")
@pytest.mark.filterwarnings("ignore:Specified provider")
def test_a_provider_that_does_not_start_is_no_reason_to_use_another(tiny_bundle: Path) -> None:
    with pytest.raises(EngineUnavailableError, match=r"(?s)cannot start its CUDA.*received: CPU.*cuDNN"):
        _network(tiny_bundle, "denoiser", GPU)


def test_options_are_checked(tiny_bundle: Path) -> None:
    with pytest.raises(ParameterError, match="device, max_rows, cuda_graph, variants"):
        open_engines("onnxruntime-cuda", tiny_bundle, load_manifest(tiny_bundle), {"speed": 9})


@pytest.fixture
def varied(tiny_bundle: Path) -> Manifest:
    """A manifest that tells of a variant of the denoiser."""
    manifest = load_manifest(tiny_bundle)
    variant = msgspec.structs.replace(
        manifest.exported["denoiser"],
        backend="onnxruntime-cuda",
        files=("denoiser/variant.onnx",),
        network_sha256=network_digest(manifest, "denoiser"),
        revision=1,
        fused={"MultiHeadAttention": 8},
    )
    return msgspec.structs.replace(manifest, builds=(*manifest.builds, variant))


def test_variants_are_taken_unless_they_are_not_wanted(varied: Manifest) -> None:
    expected = {**varied.exported, "denoiser": varied.builds[-1]}
    assert choose_builds(varied, "onnxruntime-cuda") == expected
    assert choose_builds(varied, "onnxruntime-cuda", exported_only=True) == varied.exported


def test_a_variant_of_another_network_is_not_taken(varied: Manifest) -> None:
    *others, variant = varied.builds
    stale = msgspec.structs.replace(variant, network_sha256="0" * 64)
    changed = msgspec.structs.replace(varied, builds=(*others, stale))
    assert choose_builds(changed, "onnxruntime-cuda") == varied.exported


# What onnxruntime-gpu 1.31.1's CUDA provider reads, of what there is to be set here.
KNOWN_OPTIONS = {
    "device_id",
    "user_compute_stream",
    "enable_cuda_graph",
    "arena_extend_strategy",
    "prefer_nhwc",
}


@pytest.mark.parametrize(("cuda_graph", "prefer_nhwc"), [(True, False), (False, False), (False, True)])
def test_the_provider_gets_options_that_it_knows(cuda_graph: bool, prefer_nhwc: bool) -> None:
    options = provider_options(1, 0x7F00, cuda_graph=cuda_graph, prefer_nhwc=prefer_nhwc)
    assert set(options) == KNOWN_OPTIONS
    assert (options["device_id"], options["user_compute_stream"]) == ("1", "32512")
    assert options["enable_cuda_graph"] == str(int(cuda_graph))
    assert options["prefer_nhwc"] == str(int(prefer_nhwc))


def test_convolutions_are_not_channels_last_unless_asked_for() -> None:
    assert provider_options(0, 0, cuda_graph=True)["prefer_nhwc"] == "0"


def test_channels_last_with_cuda_graphs_is_refused(tiny_bundle: Path) -> None:
    with pytest.raises(ParameterError, match=r"(?s)channels-last.*prefer_nhwc=True.*cuda_graph=False"):
        open_engines("onnxruntime-cuda", tiny_bundle, load_manifest(tiny_bundle), {"prefer_nhwc": True})


@pytest.mark.skipif(GPU in onnxruntime.get_available_providers(), reason="onnxruntime-gpu is installed")
def test_a_start_is_not_possible_without_the_provider(tiny_bundle: Path) -> None:
    path = tiny_bundle / load_manifest(tiny_bundle).exported["text_encoder"].file
    with pytest.raises(EngineUnavailableError, match="no CUDA provider"):
        check_start(path)


@pytest.mark.skipif(GPU in onnxruntime.get_available_providers(), reason="onnxruntime-gpu is installed")
@pytest.mark.filterwarnings("ignore:Specified provider")
def test_a_start_without_cuda_libraries_is_an_error(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("cuda.pathfinder")
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [GPU, CPU])
    path = tiny_bundle / load_manifest(tiny_bundle).exported["text_encoder"].file
    with pytest.raises(EngineUnavailableError, match="cannot start its CUDA"):
        check_start(path)


def test_cudnn_is_found_in_every_site_packages_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = [tmp_path / "first", tmp_path / "second"]
    for folder in folders:
        (folder / "nvidia").mkdir(parents=True)
        monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "nvidia", raising=False)
    found = onnxruntime_cuda._nvidia_packages()
    assert {folder / "nvidia" for folder in folders} <= set(found)


def test_all_runs_come_from_one_thread(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime keeps handles and recorded graphs for every thread that calls it."""
    network = _network(tiny_bundle, "text_encoder")
    ids, skip = np.zeros((1, 77), np.int64), np.zeros(1, np.int64)
    output = np.empty((1, 77, 16), np.float32)
    addresses = {
        "input_ids": ids.ctypes.data,
        "clip_skip": skip.ctypes.data,
        "last_hidden_state": output.ctypes.data,
    }
    run = network.bind({"input_ids": ids.shape, "clip_skip": skip.shape}, addresses)
    session = network._session
    threads: list[int] = []

    class Watched:
        def run_with_iobinding(self, *arguments: object) -> None:
            threads.append(threading.get_ident())
            session.run_with_iobinding(*arguments)

    monkeypatch.setattr(network, "_session", Watched())
    callers = [threading.Thread(target=run) for _ in range(3)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    run()
    assert len(threads) == 4
    assert len(set(threads)) == 1
    assert threading.get_ident() not in threads
