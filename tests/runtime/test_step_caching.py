"""Step caching gives the images of the package `deepcache` around diffusers' pipelines."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch

from inpaintrt import InpaintPipeline
from inpaintrt.bundle import CACHED_FEATURE, SHALLOW_DENOISER
from inpaintrt.errors import ParameterError
from inpaintrt.loading import load_bundle, load_variant
from inpaintrt.lora import open_loras
from inpaintrt_export.graphs.inputs import axis_sizes, input_shapes, random_inputs
from lora_files import save_lora
from runtime.deepcache_reference import caching, caching_but_for
from runtime.image_tools import disc_mask, gradient, largest_difference
from runtime.reference import SAMPLERS, Reference, compare
from runtime.reference_xl import ReferenceXL
from step_caches import make_bundle_with_step_cache

# diffusers hands PyTorch tensors to NumPy in its schedulers.
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:__array_wrap__ must accept:DeprecationWarning"),
]

SIDE = 64
CASE: Mapping[str, Any] = {
    "prompt": "a red balloon over the hills",
    "image": gradient(SIDE, SIDE),
    "mask_image": disc_mask(SIDE, SIDE),
    "height": SIDE,
    "width": SIDE,
    "seed": 3,
}
STEPS = 7
"""DeepCache does not make the last evaluation full, but here its index, 6, is a multiple of 2 and of 3."""


@pytest.fixture(scope="module")
def ours(bundle_cache: Path) -> InpaintPipeline:
    return InpaintPipeline.from_bundle(make_bundle_with_step_cache(bundle_cache))


@pytest.fixture(scope="module")
def theirs(tiny_checkpoint: Path) -> Reference:
    return Reference(tiny_checkpoint)


def _scheduler(theirs: Reference | ReferenceXL, sampler: str) -> Any:
    _, name, changes = SAMPLERS[sampler]
    return getattr(diffusers, name).from_config(theirs.scheduler.config, **changes)


def _assert_equal(
    ours: InpaintPipeline, theirs: Reference, sampler: str, interval: int, **options: Any
) -> None:
    """Our images are DeepCache's, and not those without it."""
    case: dict[str, Any] = {**CASE, "num_inference_steps": STEPS, **options}
    scheduler = _scheduler(theirs, sampler)
    with caching(theirs.pipe.unet, scheduler, interval):
        expected = theirs(**case, scheduler=scheduler)
    own: dict[str, Any] = {**case, "scheduler": SAMPLERS[sampler][0], "compat": "diffusers"}
    compare(ours(**own, cache_interval=interval).images, expected)
    assert largest_difference(ours(**own).images[0], expected[0]) > 1


@pytest.mark.parametrize("guidance", [7.5, 1.0])
@pytest.mark.parametrize("interval", [2, 3])
@pytest.mark.parametrize("sampler", ["ddim", "dpmpp_2m_karras", "euler_a", "unipc"])
def test_images_equal_deepcache(
    ours: InpaintPipeline, theirs: Reference, sampler: str, interval: int, guidance: float
) -> None:
    _assert_equal(ours, theirs, sampler, interval, guidance_scale=guidance)


def test_images_of_a_text_to_image_checkpoint_equal_deepcache(
    bundle_cache: Path, tiny_text_to_image_checkpoint: Path
) -> None:
    theirs = Reference(tiny_text_to_image_checkpoint)
    ours = InpaintPipeline.from_bundle(make_bundle_with_step_cache(bundle_cache, "tiny-text-to-image"))
    _assert_equal(ours, theirs, "euler_a", 2)
    _assert_equal(ours, theirs, "dpmpp_2m_karras", 3, guidance_scale=1.0)


@pytest.mark.parametrize(
    "options", [{"num_images_per_prompt": 3}, {"strength": 0.6, "num_inference_steps": 12}]
)
def test_several_results_and_a_part_of_the_schedule_equal_deepcache(
    ours: InpaintPipeline, theirs: Reference, options: dict[str, Any]
) -> None:
    _assert_equal(ours, theirs, "ddim", 3, **options)


def test_a_deeper_cut_equals_deepcache(bundle_cache: Path, ours: InpaintPipeline, theirs: Reference) -> None:
    deeper = InpaintPipeline.from_bundle(make_bundle_with_step_cache(bundle_cache, branch=1))
    case: dict[str, Any] = {**CASE, "num_inference_steps": STEPS}
    scheduler = _scheduler(theirs, "ddim")
    with caching(theirs.pipe.unet, scheduler, 3, branch=1):
        expected = theirs(**case, scheduler=scheduler)
    own: dict[str, Any] = {**case, "scheduler": "ddim", "compat": "diffusers", "cache_interval": 3}
    compare(deeper(**own).images, expected)
    assert largest_difference(ours(**own).images[0], expected[0]) > 1


FULL: dict[str, tuple[dict[str, Any], list[int]]] = {
    "the last of an odd number": ({"scheduler": "ddim", "num_inference_steps": 6}, [0, 2, 4, 5]),
    "second order": ({"scheduler": "heun", "num_inference_steps": 5}, [0, 2, 4, 6, 8]),
    "second order, interval 3": (
        {"scheduler": "heun", "num_inference_steps": 4, "cache_interval": 3},
        [0, 3, 6],
    ),
    "second order, ancestral": ({"scheduler": "kdpm2_a", "num_inference_steps": 4}, [0, 2, 4, 6]),
    "an interval longer than the run": (
        {"scheduler": "euler", "num_inference_steps": 4, "cache_interval": 9},
        [0, 3],
    ),
}
"""Evaluations that are full, in runs that DeepCache's own rule does not suit."""


@pytest.mark.parametrize("name", FULL)
def test_full_evaluations_are_counted_one_by_one(ours: InpaintPipeline, theirs: Reference, name: str) -> None:
    options, full = FULL[name]
    case: dict[str, Any] = {**CASE, **options}
    interval = case.pop("cache_interval", 2)
    with caching_but_for(theirs.pipe.unet, full):
        expected = theirs(**{**case, "scheduler": _scheduler(theirs, case["scheduler"])})
    compare(ours(**case, compat="diffusers", cache_interval=interval).images, expected)


@pytest.mark.filterwarnings("ignore:You have passed:FutureWarning")
def test_images_of_sdxl_equal_deepcache(bundle_cache: Path, tiny_sdxl_checkpoint: Path) -> None:
    theirs = ReferenceXL(tiny_sdxl_checkpoint)
    ours = InpaintPipeline.from_bundle(make_bundle_with_step_cache(bundle_cache, "tiny-sdxl"))
    for sampler, interval in (("euler", 2), ("dpmpp_2m_karras", 3)):
        case: dict[str, Any] = {**CASE, "num_inference_steps": STEPS, "strength": 1.0}
        scheduler = _scheduler(theirs, sampler)
        with caching(theirs.unet, scheduler, interval):
            expected = theirs(**case, scheduler=scheduler)
        own: dict[str, Any] = {**case, "scheduler": SAMPLERS[sampler][0], "compat": "diffusers"}
        compare(ours(**own, cache_interval=interval).images, expected)
        assert largest_difference(ours(**own).images[0], expected[0]) > 1


def test_openvino_gives_the_same_images(bundle_cache: Path, ours: InpaintPipeline) -> None:
    other = InpaintPipeline.from_bundle(make_bundle_with_step_cache(bundle_cache), backend="openvino")
    case: dict[str, Any] = {**CASE, "num_inference_steps": STEPS, "cache_interval": 3}
    compare(other(**case).images, ours(**case).images)


def test_guidance_that_starts_or_ends_makes_an_evaluation_full(ours: InpaintPipeline) -> None:
    case: dict[str, Any] = {**CASE, "num_inference_steps": 8, "scheduler": "ddim"}
    case["guidance_interval"] = (0.25, 0.6)  # evaluations 2, 3 and 4
    exact, cached = (ours(**case, cache_interval=interval).images[0] for interval in (1, 8))
    assert np.asarray(cached).std() > 10
    assert largest_difference(cached, exact) > 1


def test_a_bundle_without_it_refuses(tiny_bundle: Path) -> None:
    pipe = InpaintPipeline.from_bundle(tiny_bundle)
    with pytest.raises(ParameterError, match="has no step caching") as caught:
        pipe(**CASE, cache_interval=2)
    assert caught.value.parameter == "cache_interval"
    assert "inpaintrt add-step-cache" in str(caught.value)
    assert pipe(**CASE, num_inference_steps=2, cache_interval=1).images


def test_an_interval_below_1_is_refused(ours: InpaintPipeline) -> None:
    with pytest.raises(ParameterError, match="cache_interval"):
        ours(**CASE, cache_interval=0)


def test_loras_change_the_shallow_form_too(bundle_cache: Path, tmp_path: Path) -> None:
    """Given the feature of the changed denoiser, the changed shallow form computes what that computes."""
    lora = save_lora(
        tmp_path / "style.safetensors",
        {
            "lora_unet_conv_in.diff": torch.full((16, 9, 3, 3), 0.02),
            "lora_unet_mid_block_resnets_0_conv1.diff": torch.full((32, 32, 3, 3), 0.01),
        },
    )
    plain = load_bundle(make_bundle_with_step_cache(bundle_cache))
    changed = load_variant(plain, open_loras([lora]))
    assert changed.engines[SHALLOW_DENOISER] is not plain.engines[SHALLOW_DENOISER]
    manifest = plain.manifest
    sizes = axis_sizes("denoiser", (72, 56), 8, manifest.window, rows=2)
    inputs = random_inputs(manifest, "denoiser", input_shapes(manifest.exported["denoiser"], sizes))
    full = changed.engines["denoiser"].run(inputs)
    for loaded, same in ((changed, True), (plain, False)):
        shallow = loaded.engines[SHALLOW_DENOISER]
        given = {**inputs, CACHED_FEATURE: full[CACHED_FEATURE]}
        found = shallow.run({name: given[name] for name in shallow.inputs})
        assert np.allclose(found["next_state"], full["next_state"], rtol=1e-3, atol=1e-4) == same
