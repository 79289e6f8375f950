"""What the tests of SDXL ask its checkpoints for, in this runtime and in diffusers."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.image_tools import disc_mask, gradient

__all__ = ["CASES", "IMAGE", "INPAINTING", "MASK", "PROMPT", "SIDE", "SIZE", "embeddings"]

PROMPT = "a red balloon over the hills"
SIDE = 64
IMAGE = gradient(SIDE, SIDE)
MASK = disc_mask(SIDE, SIDE)
SIZE = {"height": SIDE, "width": SIDE}
INPAINTING: Mapping[str, Any] = {"image": IMAGE, "mask_image": MASK, **SIZE}

_PAINTING: Mapping[str, Any] = {"image": IMAGE, "strength": 0.7}
_SIZES = {"original_size": (100, 200), "crops_coords_top_left": (3, 7), "target_size": (90, 80)}
_NEGATIVE_SIZES = {
    "negative_original_size": (50, 60),
    "negative_crops_coords_top_left": (9, 11),
    "negative_target_size": (30, 20),
}
_BOTH_NEGATIVE = {"negative_prompt": "a dog", "negative_prompt_2": "a yellow cat"}
_SEEDS = {"num_images_per_prompt": 2, "seed": [5, 6]}
_TWO_PROMPTS = {"prompt": [PROMPT, "a blue house"], "negative_prompt": ["a tree", "the moon"]}


def _latents(count: int = 1) -> NDArray[np.float32]:
    random = np.random.default_rng(1)
    return random.standard_normal((count, 4, SIDE // 8, SIDE // 8)).astype(np.float32)


def embeddings(
    width: int, pooled: int, *, count: int = 1, tokens: int = 77, negative: bool = False
) -> dict[str, NDArray[np.float32]]:
    """Random embeddings of prompts, and of the prompts as a whole, by the names of the options."""
    random = np.random.default_rng(2 + negative)
    start = "negative_" if negative else ""
    return {
        f"{start}prompt_embeds": random.standard_normal((count, tokens, width)).astype(np.float32),
        f"{start}pooled_prompt_embeds": random.standard_normal((count, pooled)).astype(np.float32),
    }


def _inpainting(width: int, pooled: int) -> dict[str, dict[str, Any]]:
    """Cases for text encoders of these widths."""
    own = embeddings(width, pooled)
    both = own | embeddings(width, pooled, negative=True)
    cases: dict[str, dict[str, Any]] = {
        "default strength": {},
        "strength 1": {"strength": 1.0},
        "strength 0.5": {"strength": 0.5},
        "strength 0.5, no guidance": {"strength": 0.5, "guidance_scale": 1.0},
        "negative prompt": {"negative_prompt": "a tree"},
        "empty negative prompt": {"negative_prompt": ""},
        "clip_skip": {"clip_skip": 1, "negative_prompt": "a tree"},
        "both prompts": {"prompt_2": "a blue house", **_BOTH_NEGATIVE},
        "second negative prompt alone": {"negative_prompt_2": "a yellow cat"},
        "sizes": _SIZES,
        "negative sizes": {**_SIZES, **_NEGATIVE_SIZES, "negative_prompt": "a tree"},
        "not square": {"image": gradient(96, 64), "mask_image": disc_mask(96, 64), "width": 96},
        "guidance rescaled": {"guidance_rescale": 0.7},
        "three images": {"num_images_per_prompt": 3, "strength": 0.5},
        "list of seeds": {**_SEEDS, "strength": 0.5},
        "two prompts": {**_TWO_PROMPTS, "prompt_2": ["a blue house", "a dog"]},
        "two images": {
            **_TWO_PROMPTS,
            "image": [gradient(SIDE, SIDE, 1), gradient(SIDE, SIDE, 2)],
            "mask_image": [MASK, disc_mask(SIDE, SIDE, blur=3)],
        },
        "latents": {"latents": _latents()},
        "latents, strength 1": {"latents": _latents(2), "num_images_per_prompt": 2, "strength": 1.0},
        "long prompt": {"prompt": "a red balloon and " * 40},
        "crop": {"image": gradient(200, 150), "mask_image": disc_mask(200, 150), "padding_mask_crop": 10},
        "embeddings": {"prompt": None, **both},
        "embeddings, no negative prompt": {"prompt": None, **own},
        "embeddings, no guidance": {"prompt": None, **own, "guidance_scale": 1.0},
    }
    return {f"inpainting, {name}": {**INPAINTING, **case} for name, case in cases.items()}


_OF_FOUR_CHANNELS = (
    "default strength",
    "strength 1",
    "strength 0.5",
    "both prompts",
    "negative sizes",
    "two images",
    "list of seeds",
    "latents",
    "crop",
)
_OF_REFINERS = (
    *_OF_FOUR_CHANNELS[:-2],
    "negative prompt",
    "empty negative prompt",
    "second negative prompt alone",
    "clip_skip",
    "embeddings, no negative prompt",
)


def _some(cases: Mapping[str, Mapping[str, Any]], names: Sequence[str]) -> dict[str, Mapping[str, Any]]:
    return {f"inpainting, {name}": cases[f"inpainting, {name}"] for name in names}


_SCORES: dict[str, dict[str, Any]] = {
    "inpainting, scores": {**INPAINTING, "aesthetic_score": 4.0, "negative_aesthetic_score": 1.0},
    "image-to-image, scores": {**_PAINTING, "aesthetic_score": 4.0, "negative_aesthetic_score": 1.0},
}
_IMAGE_TO_IMAGE: dict[str, dict[str, Any]] = {
    "image-to-image": {"image": IMAGE, "num_inference_steps": 8},
    "image-to-image, strength 1": {"image": IMAGE, "strength": 1.0},
    "image-to-image, no guidance": {**_PAINTING, "guidance_scale": 1.0},
    "image-to-image, both prompts": {**_PAINTING, "prompt_2": "a blue house", **_BOTH_NEGATIVE},
    "image-to-image, empty negative prompt": {**_PAINTING, "negative_prompt": ""},
    "image-to-image, clip_skip": {**_PAINTING, "clip_skip": 1},
    "image-to-image, sizes": {**_PAINTING, **_SIZES, **_NEGATIVE_SIZES},
    "image-to-image, guidance rescaled": {**_PAINTING, "guidance_rescale": 0.7},
    "image-to-image, size of its own": {**_PAINTING, "image": gradient(75, 66)},
    "image-to-image, two prompts": {**_PAINTING, **_TWO_PROMPTS},
    "image-to-image, list of seeds": {**_PAINTING, **_SEEDS},
    "image-to-image, latents": {**_PAINTING, "latents": 3 * _latents()},
    "image-to-image, latents, noise in each step": {
        **_PAINTING,
        "latents": 3 * _latents(),
        "scheduler": "euler_a",
    },
    "image-to-image, latents of another scale": {
        **_PAINTING,
        "latents": _latents(),
        "scheduler": "dpmpp_2m_karras",
    },
}
_TEXT_TO_IMAGE: dict[str, dict[str, Any]] = {
    "text-to-image": SIZE,
    "text-to-image, native size": {},
    "text-to-image, not square": {"height": 64, "width": 88},
    "text-to-image, no guidance": {**SIZE, "guidance_scale": 1.0},
    "text-to-image, both prompts": {**SIZE, "prompt_2": "a blue house", **_BOTH_NEGATIVE},
    "text-to-image, empty negative prompt": {**SIZE, "negative_prompt": ""},
    "text-to-image, clip_skip": {**SIZE, "clip_skip": 1},
    "text-to-image, guidance rescaled": {**SIZE, "guidance_rescale": 0.7},
    "text-to-image, sizes": {**SIZE, **_SIZES},
    "text-to-image, negative sizes": {**SIZE, **_SIZES, **_NEGATIVE_SIZES},
    "text-to-image, one negative size": {
        **SIZE,
        **_SIZES,
        "negative_original_size": (50, 60),
        "negative_crops_coords_top_left": (9, 11),
    },
    "text-to-image, latents": {**SIZE, "latents": _latents()},
    "text-to-image, two prompts, two images each": {**SIZE, **_TWO_PROMPTS, "num_images_per_prompt": 2},
    "text-to-image, list of seeds": {**SIZE, **_SEEDS},
    "text-to-image, embeddings": {
        "prompt": None,
        **SIZE,
        **embeddings(40, 20, count=2),
        **embeddings(40, 20, count=2, negative=True),
        "num_images_per_prompt": 2,
    },
    "text-to-image, embeddings of three windows": {
        "prompt": None,
        **SIZE,
        **embeddings(40, 20, tokens=231),
        **embeddings(40, 20, tokens=231, negative=True),
    },
}

CASES: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "tiny-sdxl": {**_some(_inpainting(40, 20), _OF_FOUR_CHANNELS), **_IMAGE_TO_IMAGE, **_TEXT_TO_IMAGE},
    "tiny-sdxl-inpaint": _inpainting(40, 20),
    "tiny-sdxl-refiner": {**_some(_inpainting(24, 20), _OF_REFINERS), **_IMAGE_TO_IMAGE, **_SCORES},
}
"""Cases by the checkpoint's name."""
