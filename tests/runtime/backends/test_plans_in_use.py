"""A pipeline on engines that were built for a few shapes paints what it paints on engines that take any."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from inpaintrt.backends.engine import Engine
from inpaintrt.errors import ParameterError, PlanError, PromptError
from inpaintrt.loading import LoadedBundle, load_bundle
from inpaintrt.output import StepEvent
from inpaintrt.pipeline import InpaintPipeline
from inpaintrt.stages import Stages
from inpaintrt.store import find_bundle
from inpaintrt_export.builds.settings import BuildSettings
from runtime.backends.bench import Bench
from runtime.backends.host_device import host_engine
from runtime.image_tools import disc_mask, gradient, largest_difference

BUILT = ((128, 128), (128, 192))  # height, width
SETTINGS = BuildSettings("tensorrt", resolutions=BUILT, max_batch=2, prompt_windows=2)
SIDE = 128
TWO_WINDOWS = "a red balloon and " * 20


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(find_bundle("demo"), tmp_path_factory.mktemp("plans"), settings=SETTINGS)


@pytest.fixture(scope="module")
def plans(bench: Bench) -> InpaintPipeline:
    return bench.pipeline()


@pytest.fixture(scope="module")
def cpu() -> Iterator[InpaintPipeline]:
    with InpaintPipeline.from_bundle("demo") as pipe:
        yield pipe


def _events(pipe: InpaintPipeline, size: tuple[int, int] = (SIDE, SIDE), **options: Any) -> list[StepEvent]:
    request = {"num_inference_steps": 3, "seed": 5, "scheduler": "ddim", "prompt": "a red balloon", **options}
    return list(pipe.stream(image=gradient(*size), mask_image=disc_mask(*size), **request))


def _images(pipe: InpaintPipeline, size: tuple[int, int] = (SIDE, SIDE), **options: Any) -> list[Any]:
    output = _events(pipe, size, **options)[-1].output
    assert output is not None
    return list(output.images)


def _same(found: list[Any], expected: list[Any]) -> bool:
    return [largest_difference(*pair) <= 1 for pair in zip(found, expected, strict=True)] == [True] * len(
        found
    )


def _pixels(image: Image.Image) -> NDArray[np.int16]:
    return np.asarray(image, np.int16)


def test_a_pipeline_knows_the_sizes_that_were_built(plans: InpaintPipeline, cpu: InpaintPipeline) -> None:
    assert plans.stages.sizes == BUILT
    assert cpu.stages.sizes == ()


@pytest.mark.parametrize("size", [(128, 128), (121, 128), (61, 47), (200, 120), (700, 480), (90, 400)])
def test_an_image_of_any_size_runs_and_keeps_what_is_not_masked(
    plans: InpaintPipeline, size: tuple[int, int]
) -> None:
    (painted,) = _images(plans, size)
    assert painted.size == size
    changes = np.abs(_pixels(painted) - _pixels(gradient(*size))).max(axis=2)
    kept = np.asarray(disc_mask(*size)) == 0
    assert changes[kept].max() == 0
    assert changes[~kept].mean() > 5


@pytest.mark.parametrize("size", [(128, 128), (121, 128), (185, 126)])
def test_where_the_cpu_runs_at_a_built_size_the_image_is_the_same(
    plans: InpaintPipeline, cpu: InpaintPipeline, size: tuple[int, int]
) -> None:
    options = {"height": 128, "width": 192} if size[0] > SIDE else {}
    assert _same(_images(plans, size, **options), _images(cpu, size, **options))


def test_a_size_that_was_not_built_is_refused_where_it_is_asked_for(plans: InpaintPipeline) -> None:
    for options in ({"height": 256, "width": 256}, {"height": 64, "width": 64, "compat": "diffusers"}):
        with pytest.raises(ParameterError, match="height=128, width=128 or height=128, width=192"):
            _events(plans, **options)


def test_plans_without_a_common_size_are_refused(bench: Bench, tmp_path: Path) -> None:
    other = Bench(bench.bundle, tmp_path, settings=BuildSettings("tensorrt", resolutions=((64, 64),)))
    engines: dict[str, Engine] = {**bench.engines, "vae_decoder": other.engines["vae_decoder"]}
    loaded = load_bundle(bench.bundle)
    with pytest.raises(PlanError, match=r"(?s)vae_encoder 128x128, 192x128.*vae_decoder 64x64.*build"):
        Stages(LoadedBundle(loaded.manifest, engines, loaded.tokenizers))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"scheduler": "euler_a"},
        {"scheduler": "euler_a", "seed": [4, 5, 6, 7, 8]},
        {"guidance_scale": 1.0},
        {"strength": 0.7, "scheduler": "dpmpp_2m_karras", "num_inference_steps": 6},
        {"output_type": "latent"},
    ],
)
def test_more_results_than_a_plan_holds_come_in_turns_and_are_the_same(
    plans: InpaintPipeline, cpu: InpaintPipeline, options: dict[str, Any]
) -> None:
    found, expected = (_images(pipe, num_images_per_prompt=5, **options) for pipe in (plans, cpu))
    if "output_type" in options:
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)
    else:
        assert _same(found, expected)


def test_events_count_the_steps_of_all_turns(plans: InpaintPipeline, cpu: InpaintPipeline) -> None:
    events = _events(plans, num_images_per_prompt=5)
    assert [event.index for event in events] == list(range(1, 10))
    assert {event.total for event in events} == {9}
    assert [event.output is None for event in events] == [True] * 8 + [False]
    assert {event.total for event in _events(cpu, num_images_per_prompt=5)} == {3}


def test_previews_show_what_is_done_what_is_under_way_and_what_is_to_come(plans: InpaintPipeline) -> None:
    final = _images(plans, num_images_per_prompt=3)
    previews = {}
    request: dict[str, Any] = {"num_inference_steps": 3, "seed": 5, "scheduler": "ddim"}
    image, mask = gradient(SIDE, SIDE), disc_mask(SIDE, SIDE)
    for event in plans.stream("a red balloon", image, mask, num_images_per_prompt=3, **request):
        if event.output is None:
            previews[event.index] = event.preview()
    first = previews[1]
    assert largest_difference(first[0], image) > 10
    assert largest_difference(first[2], image) == 0
    late = previews[5]
    assert _same(late[:2], final[:2])
    assert largest_difference(late[2], image) > 10


def test_with_row_buckets_there_are_turns_as_well(bench: Bench, cpu: InpaintPipeline) -> None:
    expected = _images(cpu, num_images_per_prompt=3)
    for pipe in (bench.pipeline(row_buckets=(4, 8)), InpaintPipeline.from_bundle("demo", row_buckets=(2, 4))):
        events = _events(pipe, num_images_per_prompt=3)
        assert events[-1].total == 6
        assert events[-1].output is not None
        assert _same(list(events[-1].output.images), expected)


def test_a_backend_that_limits_rows_takes_turns(cpu: InpaintPipeline) -> None:
    loaded = load_bundle("demo")
    folder = find_bundle("demo")
    exported = loaded.manifest.exported["denoiser"]
    engines: dict[str, Engine] = {
        **loaded.engines,
        "denoiser": host_engine(folder, exported),  # at most 8 rows
    }
    pipe = InpaintPipeline(LoadedBundle(loaded.manifest, engines, loaded.tokenizers))
    events = _events(pipe, num_images_per_prompt=5)
    assert events[-1].total == 6
    assert events[-1].output is not None
    assert _same(list(events[-1].output.images), _images(cpu, num_images_per_prompt=5))


def test_prompts_of_several_windows_run_where_they_were_built(
    plans: InpaintPipeline, cpu: InpaintPipeline
) -> None:
    options: dict[str, Any] = {"prompt": TWO_WINDOWS, "long_prompts": "windows"}
    found, expected = (_images(pipe, **options) for pipe in (plans, cpu))
    assert _same(found, expected)
    assert not _same(found, _images(cpu))


def test_prompts_of_more_windows_are_refused(plans: InpaintPipeline) -> None:
    with pytest.raises(PromptError, match=r"(?s)3 windows of 77.*--prompt-windows 3"):
        _events(plans, prompt=TWO_WINDOWS * 2, long_prompts="windows")


def test_steps_are_timed_by_the_device_without_waiting_for_it(bench: Bench, plans: InpaintPipeline) -> None:
    image, mask = gradient(SIDE, SIDE), disc_mask(SIDE, SIDE)
    request: dict[str, Any] = {"num_inference_steps": 6, "seed": 0, "scheduler": "ddim"}
    device = bench.device
    events = [
        (event, device.synchronisations) for event in plans.stream("a red balloon", image, mask, **request)
    ]
    assert set(np.diff([waits for _, waits in events[:-1]])) == {1}
    output = events[-1][0].output
    assert output is not None
    # This device's clock counts pieces of work: what each step sends, one run of the network, and one copy.
    timings = output.timings
    assert len(timings.steps) == 6
    assert all(pieces > 3 for pieces in timings.steps)
    assert timings.steps[-2] == timings.steps[-3]
    assert timings.denoise == sum(timings.steps)
