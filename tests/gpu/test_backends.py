"""Every backend that starts on this machine's GPU paints what the CPU paints, and holds to its promises."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from gpu.checks import (
    check_latents,
    check_likeness,
    check_meaning,
    check_memory,
    check_quiet_steps,
    check_repeats,
    check_timings,
    count_steps,
    paint,
    paint_case,
    peak_memory,
    share_slots,
)
from gpu.devices import device_of, used_memory
from inpaintrt.demo import load_scene
from inpaintrt.output import Timings
from inpaintrt.pipeline import InpaintPipeline

pytestmark = pytest.mark.gpu

Record = Callable[[str, object], None]

WARM_UP = 3
TIMED = 20
SOAK_REQUESTS = 1000
MEBIBYTE = 2**20


@pytest.mark.parametrize("scheduler", ["ddim", "euler_a", "dpmpp_2m_karras", "heun"])
def test_the_gpu_paints_what_the_cpu_paints(
    pipe: InpaintPipeline, cpu: InpaintPipeline, scheduler: str, record_property: Record
) -> None:
    images = [paint(each, scheduler=scheduler) for each in (pipe, cpu)]
    record_property("psnr_db", check_likeness(*images))


@pytest.mark.parametrize("count", [1, 2, 3, 4, 6, 9])
def test_every_row_bucket_and_every_turn_paints_the_same(
    pipe: InpaintPipeline, cpu: InpaintPipeline, count: int, record_property: Record
) -> None:
    images = [paint(each, num_images_per_prompt=count) for each in (pipe, cpu)]
    record_property("psnr_db", check_likeness(*images))


def test_a_prompt_of_two_windows_paints_the_same(
    pipe: InpaintPipeline, cpu: InpaintPipeline, record_property: Record
) -> None:
    options = {"prompt": "a red balloon and " * 20, "long_prompts": "windows"}
    images = [paint(each, **options) for each in (pipe, cpu)]
    record_property("psnr_db", check_likeness(*images))


def test_the_gpu_paints_what_the_prompt_says(
    pipe: InpaintPipeline, is_demo: bool, record_property: Record
) -> None:
    if not is_demo:
        pytest.skip("the classifier knows the demo's world alone")
    record_property("found", check_meaning(partial(paint_case, pipe)))


def test_an_image_of_another_size_runs(pipe: InpaintPipeline) -> None:
    scene = load_scene()
    size = (scene.image.width * 3 // 2, scene.image.height)
    image, mask = scene.image.resize(size), scene.mask.resize(size)
    painted = pipe(scene.script.prompts[0], image, mask, num_inference_steps=4, seed=0).images[0]
    kept = np.asarray(mask) == 0
    np.testing.assert_array_equal(np.asarray(painted)[kept], np.asarray(image)[kept])


def test_requests_join_and_leave_while_others_run(
    pipe: InpaintPipeline, cpu: InpaintPipeline, record_property: Record
) -> None:
    record_property("relative_error", check_latents(share_slots(pipe), share_slots(cpu)))


def test_replayed_launches_compute_what_the_first_run_computed(
    pipe: InpaintPipeline, record_property: Record
) -> None:
    milliseconds = check_repeats(lambda: paint(pipe, num_inference_steps=1), TIMED)
    p50, p90 = (float(value) for value in np.percentile(milliseconds, [50, 90]))
    record_property("one_step_request_ms", {"p50": p50, "p90": p90})


def test_a_step_allocates_nothing_and_waits_once(pipe: InpaintPipeline, record_property: Record) -> None:
    paint(pipe)
    counts = count_steps(pipe, device_of(pipe))
    record_property("allocations_and_waits_of_each_step", check_quiet_steps(counts))


def test_the_gpu_times_its_steps(pipe: InpaintPipeline, record_property: Record) -> None:
    paint(pipe)
    scene = load_scene()

    def timed() -> Timings:
        return pipe(scene.script.prompts[0], scene.image, scene.mask, seed=0).timings

    record_property("seconds", check_timings(timed))


def test_low_vram_paints_the_same_with_less(
    backend: str, bundle: Path, pipe: InpaintPipeline, record_property: Record
) -> None:
    if backend == "onnxruntime-cuda":
        pytest.skip("low_vram is for plans")
    expected = paint(pipe)
    peak = peak_memory(pipe, partial(used_memory, pipe))
    pipe.close()
    with InpaintPipeline.from_bundle(bundle, backend=backend, low_vram=True) as small:
        record_property("psnr_db", check_likeness(paint(small), expected))
        low = peak_memory(small, partial(used_memory, small))
    record_property("peak_mebibytes", {"normal": peak / MEBIBYTE, "low_vram": low / MEBIBYTE})
    assert low <= peak


def test_a_thousand_requests_leave_memory_as_it_was(pipe: InpaintPipeline, record_property: Record) -> None:
    def work(seed: int) -> None:
        paint(pipe, num_inference_steps=4, seed=seed)

    growth = check_memory(partial(used_memory, pipe), work, SOAK_REQUESTS, WARM_UP)
    record_property("growth_mebibytes", growth / MEBIBYTE)
