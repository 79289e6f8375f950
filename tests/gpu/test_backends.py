"""Every backend that starts on this machine's GPU paints what the CPU paints, and holds to its promises."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from inpaintrt.backends.cuda import CudaDevice
from inpaintrt.backends.device_engine import DeviceEngine
from inpaintrt.demo import load_scene
from inpaintrt.denoiser import Program, Slots
from inpaintrt.guidance import Guidance
from inpaintrt.noise import NoiseSource, StepNoise
from inpaintrt.pipeline import InpaintPipeline
from inpaintrt.samplers import compile_table

pytestmark = pytest.mark.gpu

Record = Callable[[str, object], None]

STEPS = 20
WARM_UP = 3
TIMED = 20
SOAK_REQUESTS = 1000
LEAST_PSNR = 40.0  # dB
LARGEST_ERROR = 0.02
MEBIBYTE = 2**20


def _paint(pipe: InpaintPipeline, **options: Any) -> NDArray[np.float32]:
    scene = load_scene()
    height, width = pipe.manifest.architecture.native_resolution
    defaults: dict[str, Any] = {
        "num_inference_steps": STEPS,
        "seed": 1,
        "output_type": "np",
        "height": height,
        "width": width,
    }
    defaults.update(options)
    images: Any = pipe(scene.script.prompts[0], scene.image, scene.mask, **defaults).images
    return np.asarray(images, np.float32)


def _psnr(found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    error = float(np.mean((found - expected) ** 2))
    return float("inf") if error == 0 else 10 * float(np.log10(1 / error))


def _device(pipe: InpaintPipeline) -> CudaDevice:
    engine = pipe.stages.engines["denoiser"]
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


def test_requests_join_and_leave_while_others_run(
    pipe: InpaintPipeline, cpu: InpaintPipeline, record_property: Record
) -> None:
    found, expected = (_share_slots(each) for each in (pipe, cpu))
    error = float(np.linalg.norm(found - expected) / np.linalg.norm(expected))
    record_property("relative_error", error)
    assert error < LARGEST_ERROR


def _share_slots(pipe: InpaintPipeline) -> NDArray[np.float32]:
    """Latents of one request that left early and of two that came later."""
    architecture = pipe.manifest.architecture
    height, width = (side // architecture.vae_scale_factor for side in architecture.native_resolution)
    slots = Slots(pipe.stages.step, capacity=2, latent_shape=(architecture.latent_channels, height, width))
    early = slots.join(*_request(pipe, 0, "ddim", (height, width)))
    slots.step()
    late = slots.join(*_request(pipe, 1, "euler_a", (height, width)))
    slots.step()
    results = [slots.leave(early)]
    last = slots.join(*_request(pipe, 2, "dpmpp_2m_karras", (height, width)))
    while slots.active:
        slots.step()
    return np.stack([*results, slots.leave(late), slots.leave(last)])


def _request(pipe: InpaintPipeline, seed: int, sampler: str, size: tuple[int, int]) -> Any:
    random = np.random.default_rng(seed)
    architecture = pipe.manifest.architecture
    table = compile_table(pipe.manifest.scheduler, sampler, 6)
    weights = Guidance(3.0).weights(table.rows, has_negative=False)
    tokens = pipe.manifest.tokenizer.max_length
    contexts = random.standard_normal((weights.shape[1], tokens, architecture.context_width))
    shape = (architecture.latent_channels, *size)
    noise = StepNoise(NoiseSource(seed), 1, shape)
    program = Program(table, weights, contexts.astype(np.float32), partial(noise.draw, 0))
    latents, condition = (random.standard_normal((channels, *size)) for channels in (shape[0], 5))
    return program, latents.astype(np.float32), condition.astype(np.float32)


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
    height, width = pipe.manifest.architecture.native_resolution
    events = pipe.stream(
        scene.script.prompts[0],
        scene.image,
        scene.mask,
        num_inference_steps=STEPS,
        height=height,
        width=width,
    )
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
