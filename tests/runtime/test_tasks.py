"""A text-to-image checkpoint inpaints, repaints and paints as diffusers' three pipelines do with it."""

from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest

from bundles import make_tiny_bundle, make_tiny_checkpoint
from inpaintrt import InpaintPipeline
from inpaintrt.errors import MaskError, ParameterError
from runtime.image_tools import disc_mask, gradient, largest_difference
from runtime.reference import SAMPLERS, Reference, compare

# diffusers hands PyTorch tensors to NumPy in its schedulers, and asks for an image for each prompt.
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:__array_wrap__ must accept:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:You have passed:FutureWarning"),
]

PROMPT = "a red balloon over the hills"
SIDE = 64
IMAGE = gradient(SIDE, SIDE)
MASK = disc_mask(SIDE, SIDE)
SIZE = {"height": SIDE, "width": SIDE}
INPAINTING: dict[str, Any] = {"image": IMAGE, "mask_image": MASK, **SIZE}


@pytest.fixture(scope="module")
def ours(tiny_text_to_image_bundle: Path) -> InpaintPipeline:
    return InpaintPipeline.from_bundle(tiny_text_to_image_bundle)


@pytest.fixture(scope="module")
def theirs(tiny_text_to_image_checkpoint: Path) -> Reference:
    return Reference(tiny_text_to_image_checkpoint)


def _latents(count: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    random = np.random.default_rng(1)
    return random.standard_normal((count, 4, SIDE // 8, SIDE // 8)).astype(np.float32)


CASES: dict[str, dict[str, Any]] = {
    "inpainting": INPAINTING,
    "inpainting, strength 0.6": {**INPAINTING, "strength": 0.6},
    "inpainting, strength 0.02": {**INPAINTING, "strength": 0.02, "num_inference_steps": 50},
    "inpainting, guidance 1": {**INPAINTING, "guidance_scale": 1.0},
    "inpainting, guidance 0": {**INPAINTING, "guidance_scale": 0.0},
    "inpainting, three images": {**INPAINTING, "num_images_per_prompt": 3},
    "inpainting, list of seeds": {**INPAINTING, "num_images_per_prompt": 2, "seed": [5, 6]},
    "inpainting, latents": {**INPAINTING, "latents": _latents(1)},
    "inpainting, latents, strength 0.6": {**INPAINTING, "latents": _latents(1), "strength": 0.6},
    "inpainting, negative prompt": {**INPAINTING, "negative_prompt": "a tree"},
    "inpainting, crop": {
        "image": gradient(200, 150),
        "mask_image": disc_mask(200, 150),
        "padding_mask_crop": 10,
        **SIZE,
    },
    "text-to-image": SIZE,
    "text-to-image, native size": {},
    "text-to-image, guidance rescaled": {**SIZE, "guidance_rescale": 0.7},
    "text-to-image, latents": {**SIZE, "latents": _latents(1)},
    "text-to-image, two prompts, two images": {
        **SIZE,
        "prompt": [PROMPT, "a blue house"],
        "num_images_per_prompt": 2,
    },
    "text-to-image, list of seeds": {**SIZE, "num_images_per_prompt": 2, "seed": [5, 6]},
    "image-to-image": {"image": IMAGE},
    "image-to-image, strength 1": {"image": IMAGE, "strength": 1.0},
    "image-to-image, strength 0.3": {"image": IMAGE, "strength": 0.3},
    "image-to-image, size of its own": {"image": gradient(75, 66)},
    "image-to-image, two prompts": {"image": IMAGE, "prompt": [PROMPT, "a blue house"]},
    "image-to-image, list of seeds": {"image": IMAGE, "num_images_per_prompt": 2, "seed": [5, 6]},
    "image-to-image, guidance 1": {"image": IMAGE, "guidance_scale": 1.0},
}


@pytest.mark.parametrize("name", CASES)
def test_images_equal_diffusers(ours: InpaintPipeline, theirs: Reference, name: str) -> None:
    case: dict[str, Any] = {"prompt": PROMPT, "num_inference_steps": 4, "seed": 0, **CASES[name]}
    compare(ours(**case, compat="diffusers").images, theirs(**case))


@pytest.mark.parametrize("task", [INPAINTING, {**INPAINTING, "strength": 0.6}, {"image": IMAGE}, SIZE])
@pytest.mark.parametrize("name", SAMPLERS)
def test_images_equal_diffusers_with_every_sampler(
    ours: InpaintPipeline, theirs: Reference, name: str, task: dict[str, Any]
) -> None:
    alias, scheduler, changes = SAMPLERS[name]
    case: dict[str, Any] = {"prompt": PROMPT, "num_inference_steps": 5, "seed": 4, **task}
    if name == "ddim eta":
        case["eta"] = 1.0
    reference = getattr(diffusers, scheduler).from_config(theirs.scheduler.config, **changes)
    compare(ours(**case, scheduler=alias, compat="diffusers").images, theirs(**case, scheduler=reference))


@pytest.mark.parametrize("guidance_scale", [8.0, 1.0])
@pytest.mark.parametrize("task", [INPAINTING, {"image": IMAGE}, SIZE])
def test_a_unet_that_takes_the_guidance_scale_evaluates_the_prompt_alone(
    bundle_cache: Path, guidance_scale: float, task: dict[str, Any]
) -> None:
    """And a checkpoint whose own VAE is an `AutoencoderTiny` draws nothing for the latents of its images."""
    checkpoint = make_tiny_checkpoint(bundle_cache, "tiny-lcm")
    case: dict[str, Any] = {"prompt": PROMPT, "num_inference_steps": 4, "seed": 4, **task}
    case |= {"guidance_scale": guidance_scale, "negative_prompt": "a tree"}
    with InpaintPipeline.from_bundle(make_tiny_bundle(bundle_cache, name="tiny-lcm")) as pipe:
        assert not pipe.stages.vaes.by_name["full"].has_posterior
        found = pipe(**case, compat="diffusers").images
    compare(found, Reference(checkpoint)(**case))


def test_a_soft_mask_changes_an_image_by_its_grey_values(ours: InpaintPipeline) -> None:
    grey = np.zeros((SIDE, SIDE), np.uint8)
    grey[:, SIDE // 4 : SIDE // 2], grey[:, SIDE // 2 :] = 64, 255
    options: dict[str, Any] = {"num_inference_steps": 10, "seed": 3, "match_colors": False}
    found = ours(PROMPT, IMAGE, grey, mask_mode="soft", **options).images[0]
    change = np.abs(np.asarray(found, np.float32) - np.asarray(IMAGE, np.float32)).mean(axis=(0, 2))
    quarter = SIDE // 4
    assert change[:quarter].max() == 0
    assert 0 < change[quarter : 2 * quarter].mean() < change[2 * quarter :].mean()
    white = np.full((SIDE, SIDE), 255, np.uint8)
    hard = ours(PROMPT, IMAGE, white, strength=1.0, **options).images[0]
    soft = ours(PROMPT, IMAGE, white, mask_mode="soft", **options).images[0]
    assert largest_difference(hard, soft) == 0


def test_latents_are_the_noise_over_an_image(ours: InpaintPipeline) -> None:
    options: dict[str, Any] = {"num_inference_steps": 3, "strength": 0.5}
    images = [ours(PROMPT, image, latents=_latents(1), **options).images[0] for image in (IMAGE, MASK)]
    assert largest_difference(*images) > 10
    other = ours(PROMPT, IMAGE, latents=-_latents(1), **options).images[0]
    assert largest_difference(images[0], other) > 10


def test_a_mask_without_an_image_is_refused(ours: InpaintPipeline) -> None:
    with pytest.raises(MaskError, match="no image"):
        ours(PROMPT, mask_image=MASK)
    with pytest.raises(MaskError, match="no image"):
        ours(PROMPT, margins=(8, 0, 0, 0))


@pytest.mark.parametrize(
    ("given", "options"),
    [({}, {"strength": 0.5}), ({"image": IMAGE}, {"mask_blur": 3.0}), ({}, {"fill": "noise"})],
)
def test_options_without_meaning_for_a_task_are_refused(
    ours: InpaintPipeline, given: dict[str, Any], options: dict[str, Any]
) -> None:
    with pytest.raises(ParameterError, match=f"{next(iter(options))} has no meaning without"):
        ours(PROMPT, **given, **options)


@pytest.mark.parametrize("task", ["text-to-image", "image-to-image"])
def test_an_inpainting_checkpoint_does_the_other_tasks(tiny_bundle: Path, task: str) -> None:
    given: dict[str, Any] = {"image": IMAGE} if task == "image-to-image" else {}
    with InpaintPipeline.from_bundle(tiny_bundle) as pipe:
        found = [pipe(PROMPT, **given, num_inference_steps=3, seed=seed).images[0] for seed in (1, 1, 2)]
    assert found[0].size == (SIDE, SIDE)
    assert largest_difference(found[0], found[1]) == 0
    assert largest_difference(found[0], found[2]) > 10
