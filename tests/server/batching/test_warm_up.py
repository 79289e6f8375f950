"""On a device the server runs every shape that its steps will have before it says that it is ready."""

import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from inpaintrt.backends import Array
from inpaintrt.loading import LoadedBundle, load_bundle
from inpaintrt.store import find_bundle
from inpaintrt_export.builds.settings import BuildSettings
from inpaintrt_server.batching import BatchingService
from runtime.backends.bench import Bench
from runtime.image_tools import largest_difference
from server.batching.conftest import MakeService
from server.batching.tools import Ear, ask, hand_in, paint_alone, with_engine
from step_caches import make_bundle_with_step_cache

PATIENCE = 120.0


def _wait_ready(service: BatchingService) -> None:
    ends = time.monotonic() + PATIENCE
    while not service.snapshot.ready:
        assert not service.snapshot.engine_lost
        assert time.monotonic() < ends
        time.sleep(0.01)


def test_requests_record_nothing_once_the_server_is_ready(
    tmp_path: Path, demo: LoadedBundle, make_service: MakeService
) -> None:
    bench = Bench(find_bundle("demo"), tmp_path, settings=BuildSettings("tensorrt", max_batch=2))
    on_cpu = load_bundle(find_bundle("demo"))
    service = make_service(LoadedBundle(on_cpu.manifest, bench.engines, on_cpu.tokenizers), slots=2)
    _wait_ready(service)
    recorded = bench.device.recordings
    assert recorded > 0
    ears = [Ear(), Ear()]
    for seed, ear in enumerate(ears):
        hand_in(service, ask(num_inference_steps=4, seed=seed), ear)
    for ear in ears:
        ear.finished()
    assert bench.device.recordings == recorded


def test_nor_do_shallow_evaluations(tmp_path: Path, bundle_cache: Path, make_service: MakeService) -> None:
    bundle = make_bundle_with_step_cache(bundle_cache)
    bench = Bench(bundle, tmp_path, settings=BuildSettings("tensorrt", max_batch=2))
    on_cpu = load_bundle(bundle)
    service = make_service(LoadedBundle(on_cpu.manifest, bench.engines, on_cpu.tokenizers), slots=2)
    _wait_ready(service)
    recorded = bench.device.recordings
    kinds: list[dict[str, Any]] = [
        {"num_inference_steps": 6, "cache_interval": 2},
        {"num_inference_steps": 5, "cache_interval": 3, "seed": 1},
    ]
    asked, ears = [ask(**kind) for kind in kinds], [Ear(), Ear()]
    for request, ear in zip(asked, ears, strict=True):
        hand_in(service, request, ear)
    for request, ear in zip(asked, ears, strict=True):
        (expected,) = paint_alone(on_cpu, request)
        assert largest_difference(ear.finished().images[0], expected) <= 1
    assert bench.device.recordings == recorded


def _note(runs: list[str], component: str, inputs: Mapping[str, Array]) -> None:
    del inputs
    runs.append(component)


def test_on_a_cpu_only_the_probe_runs(demo: LoadedBundle, make_service: MakeService) -> None:
    runs: list[str] = []
    watched = demo
    for component in demo.engines:
        watched = with_engine(watched, component, partial(_note, runs, component))
    service = make_service(watched, slots=2)
    _wait_ready(service)
    assert runs == ["denoiser"]
