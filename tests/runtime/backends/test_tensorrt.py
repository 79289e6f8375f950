"""Plans on a device: what can be shown without a GPU, with a stand-in that holds callers to the rules."""

import logging
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from bundles import builds_for
from inpaintrt.backends import open_engines
from inpaintrt.backends.cuda import find_gpu
from inpaintrt.backends.device import GrowingMemory
from inpaintrt.backends.kernel_cache import KernelCache
from inpaintrt.backends.tensorrt import check_plan
from inpaintrt.backends.tensorrt_library import PlanLibrary
from inpaintrt.bundle import load_manifest
from inpaintrt.errors import (
    EngineInputError,
    EngineMemoryError,
    EngineRunError,
    EngineUnavailableError,
    ParameterError,
    PlanError,
)
from inpaintrt.pipeline import InpaintPipeline
from runtime.backends.bench import Bench
from runtime.backends.stand_in import DeferringRuntime, stand_in_rtx


def _has_gpu() -> bool:
    try:
        find_gpu()
    except EngineUnavailableError:
        return False
    return True


driverless = pytest.mark.skipif(_has_gpu(), reason="this machine has a GPU")


def _assert_all_right(bench: Bench, name: str) -> None:
    found, expected = bench.engines[name].run(bench.inputs(name)), bench.expected(name)
    for output, values in expected.items():
        np.testing.assert_allclose(found[output], values, rtol=1e-3, atol=1e-3)


def test_every_component_computes_what_the_cpu_engine_computes(tiny_bundle: Path, tmp_path: Path) -> None:
    bench = Bench(tiny_bundle, tmp_path)
    for name in bench.engines:
        for _ in range(3):  # as it is, recorded, replayed
            _assert_all_right(bench, name)
    assert bench.runtime.log == list(bench.engines)
    assert bench.device.recordings == len(bench.engines)


def test_with_little_memory_one_component_is_there_at_a_time(tiny_bundle: Path, tmp_path: Path) -> None:
    bench = Bench(tiny_bundle, tmp_path, low_vram=True)
    order = ["text_encoder", "denoiser", "denoiser", "vae_decoder", "denoiser"]
    for name in order:
        _assert_all_right(bench, name)
        assert [engine.plan.component for engine in bench.runtime.alive] == [name]
    assert bench.runtime.log == ["text_encoder", "denoiser", "vae_decoder", "denoiser"]


def test_weights_that_come_by_themselves_leave_plans_where_they_are(
    tiny_bundle: Path, tmp_path: Path
) -> None:
    bench = Bench(tiny_bundle, tmp_path, low_vram=True, runtime=DeferringRuntime)
    for name in ["text_encoder", "denoiser", "denoiser", "text_encoder", "text_encoder"]:
        _assert_all_right(bench, name)
        assert [each.plan.component for each in bench.runtime.alive if each.weights is not None] == [name]
    assert bench.runtime.log == [
        "text_encoder",
        "weights of text_encoder",
        "denoiser",
        "weights of denoiser",
        "weights of text_encoder",
    ]
    assert bench.device.recordings == 2  # what was recorded stays good


def test_rtx_records_by_itself_and_keeps_kernels_after_the_first_run(
    tiny_bundle: Path, tmp_path: Path, cache_home: Path
) -> None:
    bench = Bench(tiny_bundle, tmp_path, runtime=DeferringRuntime, library=stand_in_rtx())
    _assert_all_right(bench, "denoiser")
    assert not list(cache_home.rglob("*.cache"))
    _assert_all_right(bench, "denoiser")
    (kept,) = cache_home.rglob("*.cache")
    assert kept.read_bytes() == b"1"
    assert bench.device.recordings == 0
    again = Bench(tiny_bundle, tmp_path, runtime=DeferringRuntime, library=stand_in_rtx())
    _assert_all_right(again, "denoiser")
    again.engines["denoiser"].close()
    assert kept.read_bytes() == b"2"


def test_a_pipeline_on_plans_paints_what_it_paints_on_the_cpu(tiny_bundle: Path, tmp_path: Path) -> None:
    pipes = [InpaintPipeline.from_bundle(tiny_bundle), Bench(tiny_bundle, tmp_path).pipeline()]
    random = np.random.default_rng(0)
    image = random.integers(0, 255, (64, 64, 3)).astype(np.uint8)
    mask = np.zeros((64, 64), np.uint8)
    mask[16:48, 16:48] = 255
    for count, sampler in ((1, "ddim"), (2, "euler_a")):
        painted: list[Any] = [
            pipe(
                "a boat",
                image,
                mask,
                num_inference_steps=4,
                scheduler=sampler,
                seed=3,
                num_images_per_prompt=count,
                output_type="np",
            ).images
            for pipe in pipes
        ]
        np.testing.assert_allclose(painted[0], painted[1], atol=2 / 255)


def test_more_requests_than_the_plan_has_slots_are_refused(tiny_bundle: Path, tmp_path: Path) -> None:
    bench = Bench(tiny_bundle, tmp_path)
    with pytest.raises(EngineInputError, match=r"(?s)slots 3.*expected: slots 2.*--max-batch"):
        bench.engines["denoiser"].open_state(3, 8, 8)


def test_scratch_memory_is_shared_and_bound_anew_when_it_grows(tiny_bundle: Path, tmp_path: Path) -> None:
    bench = Bench(tiny_bundle, tmp_path)
    _assert_all_right(bench, "vae_decoder")
    with bench.device.use():
        bench.host.scratch.reserve(2**20)
    _assert_all_right(bench, "vae_decoder")
    _assert_all_right(bench, "text_encoder")
    assert bench.host.scratch.nbytes == 2**20


def test_a_size_without_a_plan_is_refused(tiny_bundle: Path, tmp_path: Path) -> None:
    bench = Bench(tiny_bundle, tmp_path)
    assert bench.engines["vae_decoder"].profiles == ({"latent_sample": (1, 4, 8, 8)},)
    with pytest.raises(EngineInputError, match=r"(?s)height 9.*expected: height 8.*inpaintrt build"):
        bench.engines["vae_decoder"].run({"latent_sample": np.zeros((1, 4, 9, 8), np.float32)})


def test_a_file_that_is_no_plan_is_refused(tiny_bundle: Path, tmp_path: Path) -> None:
    bench = Bench(tiny_bundle, tmp_path)
    bench.networks["vae_decoder"]._path.write_bytes(b"junk")
    with pytest.raises(PlanError, match=r"(?s)vae_decoder\.plan.*this is no plan.*inpaintrt build"):
        bench.engines["vae_decoder"].run(bench.inputs("vae_decoder"))


def test_a_plan_of_another_network_is_refused(tiny_bundle: Path, tmp_path: Path) -> None:
    bench = Bench(tiny_bundle, tmp_path)
    bench.networks["vae_decoder"]._path.write_bytes(b"vae_encoder")
    with pytest.raises(PlanError, match="not the plan that the manifest describes"):
        bench.engines["vae_decoder"].run(bench.inputs("vae_decoder"))


def test_too_little_memory_has_a_name(tiny_bundle: Path, tmp_path: Path) -> None:
    bench = Bench(tiny_bundle, tmp_path)
    bench.runtime.memory = 0
    with pytest.raises(EngineMemoryError, match=r"(?s)out of memory.*low_vram"):
        bench.engines["vae_decoder"].run(bench.inputs("vae_decoder"))


def test_a_run_that_the_library_refuses_has_a_name(tiny_bundle: Path, tmp_path: Path) -> None:
    bench = Bench(tiny_bundle, tmp_path)
    bench.networks["vae_decoder"].prepare()
    bench.host.scratch = GrowingMemory(bench.host.device)
    with pytest.raises(EngineRunError, match=r"(?s)failed to run vae_decoder\.plan"):
        bench.engines["vae_decoder"].run(bench.inputs("vae_decoder"))


def test_a_closed_engine_frees_its_network(tiny_bundle: Path, tmp_path: Path) -> None:
    bench = Bench(tiny_bundle, tmp_path, low_vram=True)
    _assert_all_right(bench, "text_encoder")
    bench.engines["text_encoder"].close()
    assert bench.host.resident is None
    _assert_all_right(bench, "denoiser")


def test_rtx_tells_a_plan_from_junk_before_it_reads_it(rtx: PlanLibrary, tmp_path: Path) -> None:
    runtime = rtx.module.Runtime(rtx.logger)
    path = tmp_path / "bundle" / "plans" / "tensorrt-rtx" / "junk.plan"
    with pytest.raises(PlanError, match=r"(?s)malformed engine.*inpaintrt build .*bundle --backend"):
        check_plan(rtx, runtime, b"junk" * 100, path)


@driverless
def test_a_built_plan_meets_a_typed_error_where_there_is_no_driver(
    rtx: PlanLibrary, planned_bundle: Path
) -> None:
    plan = builds_for(load_manifest(planned_bundle), "tensorrt-rtx")[0]
    runtime = rtx.module.Runtime(rtx.logger)
    content = (planned_bundle / plan.file).read_bytes()
    with pytest.raises(PlanError, match=r"(?s)cannot run .*\.plan"):
        check_plan(rtx, runtime, content, planned_bundle / plan.file)


@driverless
def test_without_a_gpu_the_backend_says_so(rtx: PlanLibrary, planned_bundle: Path) -> None:
    manifest = load_manifest(planned_bundle)
    with pytest.raises(EngineUnavailableError, match=r"(?s)NVIDIA GPU 0.*inpaintrt doctor"):
        open_engines("tensorrt-rtx", planned_bundle, manifest, {"threads": None})


def test_options_are_checked_first(tiny_bundle: Path) -> None:
    with pytest.raises(ParameterError, match="device, low_vram"):
        open_engines("tensorrt-rtx", tiny_bundle, load_manifest(tiny_bundle), {"threads": 2})


class _Cache:
    """A runtime cache that holds what it is told, and refuses what begins with "old"."""

    def __init__(self) -> None:
        self.content = b"new"

    def serialize(self) -> bytes:
        return self.content

    def deserialize(self, blob: bytes) -> bool:
        self.content = self.content if blob.startswith(b"old") else blob
        return not blob.startswith(b"old")

    def create_runtime_cache(self) -> "_Cache":
        return self

    def set_runtime_cache(self, cache: "_Cache") -> bool:
        return cache is self


@pytest.fixture
def cache_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA", "HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    return tmp_path


@pytest.fixture
def kernels(cache_home: Path) -> KernelCache:
    return KernelCache("0123456789abcdefgh", "1.7.1-NVIDIA GeForce RTX 4090-13.0")


def test_finished_kernels_are_kept_for_each_library_gpu_and_driver(kernels: KernelCache) -> None:
    assert kernels.path.name == "1.7.1-NVIDIA-GeForce-RTX-4090-13.0-0123456789abcdef.cache"
    kernels.save()
    assert not kernels.path.exists()
    kernels.attach(cast("Any", _Cache()))
    kernels.save()
    assert kernels.path.read_bytes() == b"new"
    assert [path.name for path in kernels.path.parent.iterdir()] == [kernels.path.name]


def test_kept_kernels_are_used_again(kernels: KernelCache) -> None:
    kernels.path.parent.mkdir(parents=True)
    kernels.path.write_bytes(b"kernels")
    cache = _Cache()
    kernels.attach(cast("Any", cache))
    assert cache.content == b"kernels"


def test_stale_kernels_are_made_anew_with_a_line_in_the_log(
    kernels: KernelCache, caplog: pytest.LogCaptureFixture
) -> None:
    kernels.path.parent.mkdir(parents=True)
    kernels.path.write_bytes(b"old kernels")
    with caplog.at_level(logging.WARNING):
        kernels.attach(cast("Any", _Cache()))
    kernels.save()
    assert "another library, GPU or driver" in caplog.text
    assert kernels.path.read_bytes() == b"new"


def test_a_cache_that_cannot_be_written_costs_a_line_in_the_log(
    kernels: KernelCache, caplog: pytest.LogCaptureFixture
) -> None:
    kernels.path.parent.parent.mkdir(parents=True)
    kernels.path.parent.write_bytes(b"a file in the folder's place")
    with caplog.at_level(logging.WARNING):
        kernels.attach(cast("Any", _Cache()))
        kernels.save()
    assert "cannot be kept" in caplog.text
