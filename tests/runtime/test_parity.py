"""The runtime's images are diffusers' images."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    HeunDiscreteScheduler,
    LCMScheduler,
    UniPCMultistepScheduler,
)

from inpaintrt import InpaintPipeline
from runtime.image_tools import disc_mask, gradient, largest_difference
from runtime.reference import Reference

# diffusers hands PyTorch tensors to NumPy in its schedulers.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

PROMPT = "a red balloon over the hills"
SIDE = 64
IMAGE = gradient(SIDE, SIDE)
MASK = disc_mask(SIDE, SIDE)
SIZE = {"height": SIDE, "width": SIDE}


@pytest.fixture(scope="module")
def ours(tiny_bundle: Path) -> InpaintPipeline:
    return InpaintPipeline.from_bundle(tiny_bundle)


@pytest.fixture(scope="module")
def theirs(tiny_checkpoint: Path) -> Reference:
    return Reference(tiny_checkpoint)


def _latents(count: int, height: int, width: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(1).standard_normal((count, 4, height // 8, width // 8)).astype(np.float32)


CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "strength 0.6": {"strength": 0.6},
    "strength 0.02": {"strength": 0.02, "num_inference_steps": 50},
    "guidance 1": {"guidance_scale": 1.0},
    "guidance 0": {"guidance_scale": 0.0},
    "large seed": {"seed": 2**63 + 12345},
    "one step": {"num_inference_steps": 1},
    "three images": {"num_images_per_prompt": 3},
    "three images, strength 0.6": {"num_images_per_prompt": 3, "strength": 0.6},
    "several prompts": {"prompt": [PROMPT, "a blue house", ""], "seed": 3},
    "list of seeds": {"num_images_per_prompt": 3, "seed": [5, 0, 2**32 - 1]},
    "list of seeds, strength 0.6": {"num_images_per_prompt": 2, "seed": [5, 6], "strength": 0.6},
    "not square": {"image": gradient(96, 64), "mask_image": disc_mask(96, 64), "height": 64, "width": 96},
    "latents not divisible by 8": {"height": 72, "width": 104},
    "stretched": {"image": gradient(100, 50), "mask_image": disc_mask(100, 50)},
    "mask of another size": {"mask_image": disc_mask(40, 70)},
    "crop": {"image": gradient(200, 150), "mask_image": disc_mask(200, 150), "padding_mask_crop": 10},
    "crop, soft mask": {
        "image": gradient(200, 150),
        "mask_image": disc_mask(200, 150, blur=4),
        "padding_mask_crop": 16,
    },
    "negative prompt": {"negative_prompt": "a yellow sun, clouds"},
    "several prompts, negative prompts": {
        "prompt": [PROMPT, "a blue house"],
        "negative_prompt": ["a tree", "the moon"],
    },
    "several images": {
        "prompt": [PROMPT, "a blue house"],
        "image": [gradient(SIDE, SIDE, 1), gradient(SIDE, SIDE, 2)],
        "mask_image": [MASK, disc_mask(SIDE, SIDE, blur=3)],
        "strength": 0.7,
    },
    "several images and results": {
        "prompt": [PROMPT, "a blue house"],
        "image": [gradient(SIDE, SIDE, 1), gradient(SIDE, SIDE, 2)],
        "mask_image": [MASK, MASK],
        "num_images_per_prompt": 2,
    },
    "clip_skip": {"clip_skip": 1},
    "clip_skip, negative prompt": {"clip_skip": 1, "negative_prompt": "a tree"},
    "latents": {"latents": _latents(1, SIDE, SIDE)},
    "latents, strength 0.6": {
        "latents": _latents(2, SIDE, SIDE),
        "strength": 0.6,
        "num_images_per_prompt": 2,
    },
    "long prompt": {"prompt": "a red balloon and " * 40},
    "all white": {"mask_image": disc_mask(SIDE, SIDE).point(lambda _: 255)},
    "all black": {"mask_image": disc_mask(SIDE, SIDE).point(lambda _: 0)},
}


@pytest.mark.parametrize("name", CASES)
def test_images_equal_diffusers(ours: InpaintPipeline, theirs: Reference, name: str) -> None:
    case: dict[str, Any] = {
        "prompt": PROMPT,
        "image": IMAGE,
        "mask_image": MASK,
        "num_inference_steps": 4,
        "seed": 0,
        **SIZE,
        **CASES[name],
    }
    _compare(ours(**case, compat="diffusers").images, theirs(**case))


SAMPLERS: dict[str, tuple[str, Any, dict[str, Any], dict[str, Any]]] = {
    "ddim": ("ddim", DDIMScheduler, {"clip_sample": False}, {}),
    "ddim, eta 1": ("ddim", DDIMScheduler, {"clip_sample": False}, {"eta": 1.0}),
    "ddim, eta 1, list of seeds": (
        "ddim",
        DDIMScheduler,
        {"clip_sample": False},
        {"eta": 1.0, "num_images_per_prompt": 2, "seed": [1, 2]},
    ),
    "ancestral": ("euler_a", EulerAncestralDiscreteScheduler, {}, {"num_images_per_prompt": 2}),
    "karras": (
        "dpmpp_2m_karras",
        DPMSolverMultistepScheduler,
        {"use_karras_sigmas": True},
        {"strength": 0.6},
    ),
    "sde": (
        "dpmpp_2m_sde",
        DPMSolverMultistepScheduler,
        {"algorithm_type": "sde-dpmsolver++"},
        {"num_inference_steps": 7},
    ),
    "second order": ("heun", HeunDiscreteScheduler, {}, {"strength": 0.6}),
    "unipc": ("unipc", UniPCMultistepScheduler, {}, {}),
    "lcm": ("lcm", LCMScheduler, {}, {"guidance_scale": 1.0}),
}


@pytest.mark.parametrize("name", SAMPLERS)
def test_images_equal_diffusers_with_every_kind_of_sampler(
    ours: InpaintPipeline, theirs: Reference, name: str
) -> None:
    alias, scheduler, changes, options = SAMPLERS[name]
    case: dict[str, Any] = {
        "prompt": PROMPT,
        "image": IMAGE,
        "mask_image": MASK,
        "num_inference_steps": 6,
        "seed": 4,
        **SIZE,
        **options,
    }
    reference = scheduler.from_config(theirs.scheduler.config, **changes)
    _compare(ours(**case, scheduler=alias, compat="diffusers").images, theirs(**case, scheduler=reference))


def _compare(ours: Any, theirs: Any) -> None:
    assert len(ours) == len(theirs)
    for mine, reference in zip(ours, theirs, strict=True):
        assert np.asarray(reference).std() > 10, "the reference is a blank image, which proves nothing"
        assert largest_difference(mine, reference) <= 1
