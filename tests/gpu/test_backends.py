"""Every backend that starts on this machine's GPU paints what the CPU paints, and holds to its promises."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from inpaintrt.backends.cuda import CudaDevice
from inpaintrt.backends.device_engine import DeviceEngine
from inpaintrt.demo import load_scene
from inpaintrt.pipeline import InpaintPipeline

pytestmark = pytest.mark.gpu

Record = Callable[[str, object], None]

STEPS = 20
WARM_UP = 3
TIMED = 20
SOAK_REQUESTS = 1000
LEAST_PSNR = 40.0  # dB
MEBIBYTE = 2**20


def _paint(pipe: InpaintPipeline, **options: Any) -> NDArray[np.float32]:
    scene = load_scene()
    defaults = {"num_inference_steps": STEPS, "seed": 1, "output_type": "np", **options}
    images: Any = pipe(scene.script.prompts[0], scene.image, scene.mask, **defaults).images
    return np.asarray(images, np.float32)


def _psnr(found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    error = float(np.mean((found - expected) ** 2))
    return float("inf") if error == 0 else 10 * float(np.log10(1 / error))


def _device(pipe: InpaintPipeline) -> CudaDevice:
    engine = pipe._engines["denoiser"]
    assert isinstance(engine, DeviceEngine)
    assert isinstance(engine.device, CudaDevice)
    return engine.device


@pytest.mark.parametrize("scheduler", ["ddim", "euler_a", "dpmpp_2m_karras", "heun"])
def test_the_gpu_paints_what_the_cpu_paints(
    pipe: InpaintPipeline, cpu: InpaintPipeline, scheduler: str, record_property: Record
) -> None:
    psnr = _psnr(_paint(pipe, scheduler=scheduler), _paint(cpu, scheduler=scheduler))
    record_property("psnr_db", psnr)
    assert psnr >= LEAST_PSNR


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_every_row_bucket_paints_the_same(
    pipe: InpaintPipeline, cpu: InpaintPipeline, count: int, record_property: Record
) -> None:
    psnr = _psnr(_paint(pipe, num_images_per_prompt=count), _paint(cpu, num_images_per_prompt=count))
    record_property("psnr_db", psnr)
    assert psnr >= LEAST_PSNR


def test_replayed_launches_compute_what_the_first_run_computed(
    pipe: InpaintPipeline, record_property: Record
) -> None:
    first = _paint(pipe, num_inference_steps=1)  # warms up, records nothing
    milliseconds = []
    for _ in range(TIMED):
        start = time.perf_counter()
        np.testing.assert_array_equal(_paint(pipe, num_inference_steps=1), first)
        milliseconds.append(1000 * (time.perf_counter() - start))
    record_property("one_step_request_ms", dict(zip(("p50", "p90"), _percentiles(milliseconds), strict=True)))


def test_a_step_allocates_nothing_and_waits_once(pipe: InpaintPipeline, record_property: Record) -> None:
    _paint(pipe)
    device = _device(pipe)
    scene = load_scene()
    events = pipe.stream(scene.script.prompts[0], scene.image, scene.mask, num_inference_steps=STEPS)
    counts = [(device.allocations, device.synchronisations) for event in events if event.output is None]
    changes = np.diff(np.array(counts), axis=0)
    record_property("allocations_and_waits_of_each_step", changes.tolist())
    assert changes[:, 0].max() == 0
    assert changes[:, 1].max() <= 1


def test_low_vram_paints_the_same_with_less(
    backend: str, bundle: Path, pipe: InpaintPipeline, record_property: Record
) -> None:
    if backend == "onnxruntime-cuda":
        pytest.skip("low_vram is for plans")
    expected = _paint(pipe)
    used = _used(_device(pipe))
    pipe.close()
    with InpaintPipeline.from_bundle(bundle, backend=backend, low_vram=True) as small:
        psnr = _psnr(_paint(small), expected)
        used_low = _used(_device(small))
    record_property("psnr_db", psnr)
    record_property("used_mebibytes", {"normal": used / MEBIBYTE, "low_vram": used_low / MEBIBYTE})
    assert psnr >= LEAST_PSNR
    assert used_low <= used


def test_a_thousand_requests_leave_memory_as_it_was(pipe: InpaintPipeline, record_property: Record) -> None:
    for _ in range(WARM_UP):
        _paint(pipe, num_inference_steps=4)
    before = _used(_device(pipe))
    for seed in range(SOAK_REQUESTS):
        _paint(pipe, num_inference_steps=4, seed=seed)
    growth = _used(_device(pipe)) - before
    record_property("growth_mebibytes", growth / MEBIBYTE)
    assert growth < 16 * MEBIBYTE


def _percentiles(values: list[float]) -> list[float]:
    return [float(value) for value in np.percentile(values, [50, 90])]


def _used(device: CudaDevice) -> int:
    free, total = device.free_memory()
    return total - free
