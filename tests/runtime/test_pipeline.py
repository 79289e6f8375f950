"""What the pipeline promises beyond diffusers' images."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from inpaintrt import InpaintOutput, InpaintPipeline
from inpaintrt.errors import (
    EngineRunError,
    EngineUnavailableError,
    ImageError,
    LatentsError,
    MaskError,
    ParameterError,
    PromptError,
    SchedulerError,
)
from inpaintrt.families import SD
from inpaintrt.request import Request, make_request
from runtime.image_tools import disc_mask, gradient, largest_difference

SIDE = 64
IMAGE = gradient(SIDE, SIDE)
MASK = disc_mask(SIDE, SIDE)
BLACK = Image.new("L", (SIDE, SIDE), 0)
WHITE = Image.new("L", (SIDE, SIDE), 255)


@pytest.fixture(scope="module")
def pipe(tiny_bundle: Path) -> Iterator[InpaintPipeline]:
    with InpaintPipeline.from_bundle(tiny_bundle) as pipe:
        yield pipe


def _paint(pipe: InpaintPipeline, **changes: Any) -> InpaintOutput:
    request: dict[str, Any] = {
        "prompt": "a red balloon",
        "image": IMAGE,
        "mask_image": MASK,
        "num_inference_steps": 3,
        "seed": 0,
        **changes,
    }
    return pipe(**request)


def _array(pipe: InpaintPipeline, output_type: str = "latent", **changes: Any) -> np.ndarray:
    images = _paint(pipe, output_type=output_type, **changes).images
    assert isinstance(images, np.ndarray)
    return images


def _pixels(image: Any) -> np.ndarray:
    return np.asarray(image)


def test_pixels_outside_the_mask_are_kept(pipe: InpaintPipeline) -> None:
    painted = _pixels(_paint(pipe).images[0])
    kept = _pixels(MASK) == 0
    np.testing.assert_array_equal(painted[kept], _pixels(IMAGE)[kept])
    assert np.abs(painted.astype(int) - _pixels(IMAGE))[~kept].mean() > 5


@pytest.mark.parametrize("size", [(61, 47), (64, 64), (40, 64)])
def test_an_image_keeps_its_size(pipe: InpaintPipeline, size: tuple[int, int]) -> None:
    assert _paint(pipe, image=gradient(*size), mask_image=disc_mask(*size)).images[0].size == size


def test_of_a_large_image_only_the_masked_region_runs(pipe: InpaintPipeline) -> None:
    image, mask = gradient(8000, 6000), Image.new("L", (8000, 6000), 0)
    mask.paste(255, (3000, 2000, 3040, 2030))
    painted = _pixels(_paint(pipe, image=image, mask_image=mask).images[0])
    assert painted.shape == (6000, 8000, 3)
    kept = _pixels(mask) == 0
    np.testing.assert_array_equal(painted[kept], _pixels(image)[kept])
    assert not np.array_equal(painted[~kept], _pixels(image)[~kept])


def test_an_empty_mask_gives_the_image_back_with_a_warning(pipe: InpaintPipeline) -> None:
    output = _paint(pipe, mask_image=BLACK)
    assert largest_difference(output.images[0], IMAGE) == 0
    assert output.warnings
    assert output.timings.steps == ()


def test_an_empty_mask_has_no_latents(pipe: InpaintPipeline) -> None:
    with pytest.raises(ParameterError, match="nothing to repaint"):
        _paint(pipe, mask_image=BLACK, output_type="latent")


def test_a_white_mask_repaints_everything(pipe: InpaintPipeline) -> None:
    assert largest_difference(_paint(pipe, mask_image=WHITE).images[0], IMAGE) > 30


def test_output_types_agree(pipe: InpaintPipeline) -> None:
    images = _paint(pipe, match_colors=False).images
    array = _array(pipe, "np", match_colors=False)
    assert array.shape == (1, SIDE, SIDE, 3)
    np.testing.assert_allclose(array[0] * 255, _pixels(images[0]), atol=1e-3)
    precise = _array(pipe, "np", compat="diffusers")
    painted = _pixels(MASK) == 255
    np.testing.assert_allclose(precise[0][painted], array[0][painted], atol=0.51 / 255)
    assert _array(pipe).shape == (1, 4, SIDE // 8, SIDE // 8)


def test_a_seed_is_chosen_reported_and_repeats_the_image(pipe: InpaintPipeline) -> None:
    first = _paint(pipe, seed=None)
    second = _paint(pipe, seed=None)
    assert first.seeds != second.seeds
    assert largest_difference(_paint(pipe, seed=first.seeds[0]).images[0], first.images[0]) == 0


def test_seed_zero_is_a_seed(pipe: InpaintPipeline) -> None:
    assert _paint(pipe, seed=0).seeds == (0,)
    assert largest_difference(_paint(pipe, seed=0).images[0], _paint(pipe, seed=0).images[0]) == 0


def test_each_image_of_a_list_of_seeds_is_the_image_of_that_seed(pipe: InpaintPipeline) -> None:
    many = _paint(pipe, seed=[4, 5, 6], num_images_per_prompt=3, scheduler="euler_a")
    assert many.seeds == (4, 5, 6)
    for seed, image in zip(many.seeds, many.images, strict=True):
        assert largest_difference(_paint(pipe, seed=seed, scheduler="euler_a").images[0], image) <= 1


def test_one_seed_counts_up_and_each_image_is_that_of_its_own_seed(pipe: InpaintPipeline) -> None:
    many = _paint(pipe, seed=4, num_images_per_prompt=3, scheduler="euler_a")
    assert many.seeds == (4, 5, 6)
    assert largest_difference(_paint(pipe, seed=6, scheduler="euler_a").images[0], many.images[2]) <= 1


def test_as_diffusers_results_share_one_seed(pipe: InpaintPipeline) -> None:
    many = _paint(pipe, seed=4, num_images_per_prompt=2, compat="diffusers")
    assert many.seeds == (4, 4)
    assert _paint(pipe, seed=-1, compat="diffusers").seeds == (-1,)


@pytest.mark.parametrize("seed", [-1, [-1, 7]])
def test_minus_one_chooses_a_seed(pipe: InpaintPipeline, seed: int | list[int]) -> None:
    first, second = (_paint(pipe, seed=seed, num_images_per_prompt=2) for _ in range(2))
    assert min(first.seeds) >= 0
    assert first.seeds[0] != second.seeds[0]
    assert first.seeds[1] == (7 if isinstance(seed, list) else first.seeds[0] + 1)


def test_in_one_row_bucket_company_changes_no_bit(tiny_bundle: Path) -> None:
    pipe = InpaintPipeline.from_bundle(tiny_bundle, row_buckets=(8,))
    alone = _array(pipe, seed=5)
    together = _array(pipe, seed=[4, 5, 6], num_images_per_prompt=3)
    np.testing.assert_array_equal(together[1], alone[0])


def test_threads_may_share_a_pipeline(pipe: InpaintPipeline) -> None:
    expected = [_pixels(_paint(pipe, seed=seed, scheduler="unipc").images[0]) for seed in range(4)]
    results: dict[int, np.ndarray] = {}

    def work(seed: int) -> None:
        results[seed] = _pixels(_paint(pipe, seed=seed, scheduler="unipc").images[0])

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed in range(4):
        np.testing.assert_array_equal(results[seed], expected[seed])


def test_a_stream_tells_of_each_step_and_ends_with_the_result(pipe: InpaintPipeline) -> None:
    events = list(pipe.stream("a red balloon", IMAGE, MASK, num_inference_steps=4, seed=0, scheduler="ddim"))
    assert [event.index for event in events] == [1, 2, 3, 4]
    assert all(event.total == 4 for event in events)
    assert [event.output is not None for event in events] == [False, False, False, True]


def test_previews_approach_the_result(pipe: InpaintPipeline) -> None:
    distances = []
    final = _paint(pipe, num_inference_steps=8, scheduler="ddim").images[0]
    for event in pipe.stream("a red balloon", IMAGE, MASK, num_inference_steps=8, seed=0, scheduler="ddim"):
        if event.output is None:
            (preview,) = event.preview()
            distances.append(np.abs(_pixels(preview).astype(int) - _pixels(final)).mean())
    assert distances[-1] < distances[0]


def test_a_result_whose_micro_batch_has_not_begun_is_previewed_as_the_image(tiny_bundle: Path) -> None:
    options: Any = {"num_inference_steps": 3, "num_images_per_prompt": 2, "seed": 0, "scheduler": "ddim"}
    with InpaintPipeline.from_bundle(tiny_bundle, row_buckets=(2,)) as pipe:
        events = pipe.stream("a red balloon", IMAGE, MASK, **options)
        previews = [event.preview() for event in events if event.output is None]
    assert len(previews) == 5
    changed = [[largest_difference(image, IMAGE) > 0 for image in images] for images in previews]
    assert changed == [[True, False]] * 3 + [[True, True]] * 2


def test_closing_a_stream_cancels_it(pipe: InpaintPipeline) -> None:
    stream = pipe.stream("a red balloon", IMAGE, MASK, num_inference_steps=50)
    assert next(stream).index == 1
    stream.close()  # type: ignore[attr-defined]
    assert list(stream) == []


def test_timings_add_up(pipe: InpaintPipeline) -> None:
    timings = _paint(pipe, scheduler="ddim").timings
    stages = (timings.prepare, timings.prompts, timings.image_encode, timings.image_decode, timings.paste)
    assert len(timings.steps) == 3
    assert timings.denoise == pytest.approx(sum(timings.steps))
    assert timings.total == pytest.approx(sum(stages) + timings.denoise)
    assert timings.image_decode > 0


def test_images_may_be_paths_and_arrays(pipe: InpaintPipeline, tmp_path: Path) -> None:
    IMAGE.save(tmp_path / "image.png")
    MASK.save(tmp_path / "mask.png")
    expected = _paint(pipe).images[0]
    from_paths = _paint(pipe, image=tmp_path / "image.png", mask_image=str(tmp_path / "mask.png")).images[0]
    from_arrays = _paint(pipe, image=_pixels(IMAGE), mask_image=_pixels(MASK)).images[0]
    assert largest_difference(from_paths, expected) == 0
    assert largest_difference(from_arrays, expected) == 0


def test_images_and_latents_may_be_tensors(pipe: InpaintPipeline) -> None:
    latents = np.random.default_rng(0).standard_normal((1, 4, SIDE // 8, SIDE // 8)).astype(np.float32)
    expected = _paint(pipe, latents=latents).images[0]
    image = torch.from_numpy(_pixels(IMAGE).copy()).permute(2, 0, 1)[None] / 255
    mask = torch.from_numpy(_pixels(MASK).copy())[None] / 255
    painted = _paint(pipe, image=image, mask_image=mask, latents=torch.from_numpy(latents)).images[0]
    assert largest_difference(painted, expected) == 0


def test_one_prompt_serves_several_images(pipe: InpaintPipeline) -> None:
    images = [gradient(SIDE, SIDE, seed) for seed in (1, 2)]
    both = _paint(pipe, image=images, seed=[7, 8]).images
    for image, seed, painted in zip(images, (7, 8), both, strict=True):
        assert largest_difference(_paint(pipe, image=image, seed=seed).images[0], painted) <= 1


def test_without_compat_results_stay_with_their_images(pipe: InpaintPipeline) -> None:
    images = [gradient(SIDE, SIDE, seed) for seed in (1, 2)]
    output = _paint(
        pipe, prompt=["a tree", "a house"], image=images, num_images_per_prompt=2, seed=[1, 2, 3, 4]
    )
    kept = _pixels(MASK) == 0
    for index, painted in enumerate(output.images):
        np.testing.assert_array_equal(_pixels(painted)[kept], _pixels(images[index // 2])[kept])


def test_guidance_rules_change_the_image(pipe: InpaintPipeline) -> None:
    kinds: list[dict[str, Any]] = [
        {},
        {"negative_prompt": "a tree"},
        {"negative_prompt": "a tree", "negative_mode": "symmetric"},
        {"guidance_interval": (0.4, 1.0)},
        {"guidance_scale": 1.0},
    ]
    latents = [_array(pipe, **kind) for kind in kinds]
    for index, one in enumerate(latents):
        for other in latents[index + 1 :]:
            assert np.abs(one - other).max() > 1e-3


def test_long_prompts_are_cut_with_a_warning_or_read_in_windows(pipe: InpaintPipeline) -> None:
    prompt = "a red balloon and " * 40
    cut = _paint(pipe, prompt=prompt)
    assert any("cut off" in warning for warning in cut.warnings)
    whole = _paint(pipe, prompt=prompt, long_prompts="windows", negative_prompt="a tree")
    assert whole.warnings == ()
    assert largest_difference(cut.images[0], whole.images[0]) > 0


@pytest.mark.parametrize("fill", ["grey", "blur", "noise"])
def test_masked_content_matters_below_full_strength(pipe: InpaintPipeline, fill: str) -> None:
    original, filled = (
        _array(pipe, strength=0.5, num_inference_steps=6, fill=kind) for kind in ("original", fill)
    )
    assert np.abs(original - filled).max() > 1e-3


def test_outpainting_grows_the_canvas(pipe: InpaintPipeline) -> None:
    image = gradient(40, 40)
    painted = _paint(pipe, image=image, mask_image=Image.new("L", (40, 40), 0), margins=(8, 0, 16, 0)).images[
        0
    ]
    assert painted.size == (64, 40)
    np.testing.assert_array_equal(_pixels(painted)[:, 8:48], _pixels(image))


BAD: dict[str, tuple[type[Exception], dict[str, Any]]] = {
    "no steps": (ParameterError, {"num_inference_steps": 0}),
    "1001 steps": (ParameterError, {"num_inference_steps": 1001}),
    "half a step": (ParameterError, {"num_inference_steps": 2.5}),
    "strength above 1": (ParameterError, {"strength": 1.5}),
    "strength below 0": (ParameterError, {"strength": -0.1}),
    "strength NaN": (ParameterError, {"strength": float("nan")}),
    "strength that leaves no step": (ParameterError, {"strength": 0.1}),
    "guidance NaN": (ParameterError, {"guidance_scale": float("nan")}),
    "guidance of another type": (ParameterError, {"guidance_scale": "much"}),
    "eta out of range": (ParameterError, {"eta": 2.0, "scheduler": "ddim"}),
    "no images": (ParameterError, {"num_images_per_prompt": 0}),
    "unknown scheduler": (SchedulerError, {"scheduler": "magic"}),
    "unknown option": (ParameterError, {"steps": 5}),
    "unknown output type": (ParameterError, {"output_type": "tensor"}),
    "unknown compat": (ParameterError, {"compat": "webui"}),
    "unknown fill": (ParameterError, {"fill": "pink"}),
    "unknown negative mode": (ParameterError, {"negative_mode": "other"}),
    "unknown way with long prompts": (ParameterError, {"long_prompts": "fold"}),
    "interval upside down": (ParameterError, {"guidance_interval": (0.8, 0.2)}),
    "clip_skip below 0": (ParameterError, {"clip_skip": -1}),
    "clip_skip of all layers": (ParameterError, {"clip_skip": 99}),
    "seed of another type": (ParameterError, {"seed": "one"}),
    "seed out of range": (ParameterError, {"seed": 2**64}),
    "too few seeds": (ParameterError, {"seed": [1], "num_images_per_prompt": 2}),
    "size not a multiple of 8": (ParameterError, {"height": 60, "width": 64}),
    "prompt of another type": (PromptError, {"prompt": 7}),
    "no prompt": (PromptError, {"prompt": []}),
    "prompt of 100 kB": (PromptError, {"prompt": "a" * 100_000}),
    "more prompts than images": (PromptError, {"prompt": ["a"] * 3, "image": [IMAGE] * 2}),
    "more negative prompts than prompts": (PromptError, {"negative_prompt": ["a"] * 3}),
    "image of another type": (ImageError, {"image": 7}),
    "image 1 x 1": (ImageError, {"image": gradient(1, 1), "mask_image": disc_mask(1, 1)}),
    "images of different sizes": (
        ImageError,
        {"image": [IMAGE, gradient(48, 48)], "mask_image": [MASK, disc_mask(48, 48)]},
    ),
    "missing file": (ImageError, {"image": "nowhere.png"}),
    "mask of another size": (MaskError, {"mask_image": disc_mask(32, 32)}),
    "mask of another type": (MaskError, {"mask_image": 7}),
    "more masks than images": (MaskError, {"image": [IMAGE] * 2, "mask_image": [MASK] * 3}),
    "latents of another type": (LatentsError, {"latents": [1.0]}),
    "latents of another shape": (LatentsError, {"latents": np.zeros((1, 4, 3, 3), np.float32)}),
    "latents of whole numbers": (LatentsError, {"latents": np.zeros((1, 4, 8, 8), np.int64)}),
    "latents NaN": (LatentsError, {"latents": np.full((1, 4, 8, 8), np.nan, np.float32)}),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_has_a_name_and_says_what_was_received(pipe: InpaintPipeline, name: str) -> None:
    kind, changes = BAD[name]
    with pytest.raises(kind) as caught:
        _paint(pipe, **changes)
    assert "received:" in str(caught.value)
    assert "expected:" in str(caught.value)


def test_a_table_is_compiled_once_for_equal_settings(pipe: InpaintPipeline) -> None:
    first = _request(num_inference_steps=7, scheduler="ddim")
    second = _request(num_inference_steps=7, scheduler="ddim", seed=1)
    table = pipe.stages.compile(first)
    assert pipe.stages.compile(second) is table
    for change in ({"num_inference_steps": 8}, {"scheduler": "unipc"}, {"strength": 0.5}, {"eta": 1.0}):
        other = pipe.stages.compile(_request(**{"num_inference_steps": 7, "scheduler": "ddim", **change}))
        assert other.update.shape != table.update.shape or not np.array_equal(other.update, table.update)


def _request(**changes: Any) -> Request:
    options: Any = {"seed": 0, **changes}
    return make_request("a red balloon", IMAGE, MASK, options, SD)


def test_an_unknown_scheduler_lists_the_known(pipe: InpaintPipeline) -> None:
    with pytest.raises(SchedulerError, match=r"(?s)ddim.*euler_a.*unipc"):
        _paint(pipe, scheduler="magic")


def test_an_unknown_backend_or_option_is_refused(tiny_bundle: Path) -> None:
    with pytest.raises(EngineUnavailableError, match="onnxruntime"):
        InpaintPipeline.from_bundle(tiny_bundle, backend="abacus")
    with pytest.raises(ParameterError, match="threads"):
        InpaintPipeline.from_bundle(tiny_bundle, speed=9)


def test_a_closed_pipeline_says_so(tiny_bundle: Path) -> None:
    pipe = InpaintPipeline.from_bundle(tiny_bundle)
    pipe.close()
    with pytest.raises(EngineRunError, match="closed"):
        _paint(pipe)
