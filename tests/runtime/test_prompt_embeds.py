"""Embeddings in place of prompts have the effect that they have in diffusers."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from inpaintrt import InpaintPipeline
from inpaintrt.errors import ParameterError, PromptError
from inpaintrt.loading import load_bundle
from runtime.arrays import HasDlpack
from runtime.image_tools import disc_mask, gradient, largest_difference
from runtime.reference import Reference

# diffusers hands PyTorch tensors to NumPy in its schedulers.
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:__array_wrap__ must accept:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:You have passed:FutureWarning"),
]

PROMPT = "a red balloon over the hills"
SIDE = 64
IMAGE = gradient(SIDE, SIDE)
SIZE: dict[str, Any] = {"height": SIDE, "width": SIDE}
INPAINTING: dict[str, Any] = {"image": IMAGE, "mask_image": disc_mask(SIDE, SIDE), **SIZE}
SHORT: dict[str, Any] = {"num_inference_steps": 4, "seed": 0}


@pytest.fixture(scope="module")
def ours(tiny_text_to_image_bundle: Path) -> Iterator[InpaintPipeline]:
    with InpaintPipeline.from_bundle(tiny_text_to_image_bundle) as pipe:
        yield pipe


@pytest.fixture(scope="module")
def theirs(tiny_text_to_image_checkpoint: Path) -> Reference:
    return Reference(tiny_text_to_image_checkpoint)


def _embeddings(width: int, count: int = 1, tokens: int = 77, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, tokens, width)).astype(np.float32)


CASES: dict[str, tuple[dict[str, Any], dict[str, dict[str, int]]]] = {
    "inpainting": (INPAINTING, {"prompt_embeds": {}}),
    "inpainting, both": (INPAINTING, {"prompt_embeds": {}, "negative_prompt_embeds": {"seed": 1}}),
    "inpainting, negative text": ({**INPAINTING, "negative_prompt": "a tree"}, {"prompt_embeds": {}}),
    "inpainting, prompt as text": (
        {**INPAINTING, "prompt": PROMPT},
        {"negative_prompt_embeds": {"seed": 1}},
    ),
    "inpainting, two prompts, two images each": (
        {**INPAINTING, "num_images_per_prompt": 2},
        {"prompt_embeds": {"count": 2}, "negative_prompt_embeds": {"count": 2, "seed": 1}},
    ),
    "image-to-image": ({"image": IMAGE}, {"prompt_embeds": {}}),
    "text-to-image": (SIZE, {"prompt_embeds": {}}),
    "text-to-image, guidance 1": ({**SIZE, "guidance_scale": 1.0}, {"prompt_embeds": {"tokens": 20}}),
    "text-to-image, three windows": (
        SIZE,
        {"prompt_embeds": {"tokens": 231}, "negative_prompt_embeds": {"tokens": 231, "seed": 1}},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_images_equal_diffusers(ours: InpaintPipeline, theirs: Reference, name: str) -> None:
    options, shapes = CASES[name]
    width = ours.manifest.architecture.context_width
    given: dict[str, Any] = {key: _embeddings(width, **shape) for key, shape in shapes.items()}
    case: dict[str, Any] = {"prompt": None, **SHORT, **options}
    tensors: dict[str, Any] = {key: torch.from_numpy(array) for key, array in given.items()}
    expected = theirs(**case, **tensors)
    found = ours(**case, **given, compat="diffusers").images
    assert len(found) == len(expected)
    for mine, reference in zip(found, expected, strict=True):
        assert np.asarray(reference).std() > 10, "the reference is a blank image, which proves nothing"
        assert largest_difference(mine, reference) <= 1


def test_the_text_encoder_does_not_run_for_embeddings(tiny_bundle: Path) -> None:
    with InpaintPipeline(load_bundle(tiny_bundle)) as pipe:
        width = pipe.manifest.architecture.context_width
        given: dict[str, Any] = {
            "prompt_embeds": _embeddings(width),
            "negative_prompt_embeds": _embeddings(width, seed=1),
        }
        pipe(**given, **INPAINTING, **SHORT)
        assert pipe.stages.prompts.misses == 0
        pipe(prompt_embeds=given["prompt_embeds"], **INPAINTING, **SHORT)
        assert pipe.stages.prompts.misses == 1, "the empty prompt"


@pytest.mark.parametrize("negative_mode", ["replace", "symmetric"])
def test_the_embeddings_of_texts_give_the_image_of_the_texts(
    ours: InpaintPipeline, negative_mode: Any
) -> None:
    (embedding, negative), *_ = ours.stages.prompts.encoders[0].encode([PROMPT, "a tree"])
    options: dict[str, Any] = {**INPAINTING, **SHORT, "negative_mode": negative_mode}
    texts = ours(PROMPT, negative_prompt="a tree", **options).images[0]
    embedded = ours(prompt_embeds=embedding[None], negative_prompt_embeds=negative[None], **options).images[0]
    assert largest_difference(texts, embedded) == 0


@pytest.mark.parametrize("convert", [np.asarray, torch.from_numpy, HasDlpack])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_embeddings_may_be_arrays_of_any_library(
    ours: InpaintPipeline, convert: Callable[[np.ndarray], Any], dtype: type[np.floating]
) -> None:
    given = _embeddings(ours.manifest.architecture.context_width).astype(np.float16)
    expected = ours(prompt_embeds=given.astype(np.float32), **SIZE, **SHORT).images[0]
    assert (
        largest_difference(
            ours(prompt_embeds=convert(given.astype(dtype)), **SIZE, **SHORT).images[0], expected
        )
        == 0
    )


def test_embeddings_of_one_prompt_serve_all_images(ours: InpaintPipeline) -> None:
    given = _embeddings(ours.manifest.architecture.context_width)
    images = [IMAGE, gradient(SIDE, SIDE, 1)]
    found = ours(None, images, prompt_embeds=given, **SHORT).images
    assert len(found) == 2
    assert largest_difference(found[0], found[1]) > 5


@pytest.mark.parametrize(
    ("prompt", "shapes", "options", "words"),
    [
        (None, {}, {}, "there is no prompt"),
        (None, {"negative_prompt_embeds": {}}, {}, "there is no prompt"),
        (PROMPT, {"prompt_embeds": {}}, {}, "prompt and prompt_embeds are both given"),
        (
            PROMPT,
            {"negative_prompt_embeds": {}},
            {"negative_prompt": "a tree"},
            "negative_prompt and negative_prompt_embeds are both given",
        ),
        (None, {"prompt_embeds": {}, "negative_prompt_embeds": {"tokens": 20}}, {}, "different shapes"),
        (None, {"prompt_embeds": {"tokens": 20}}, {}, r"(?s)numbers of tokens.*20 tokens and 77 tokens"),
        (None, {"prompt_embeds": {"count": 3}}, {"image": [IMAGE, IMAGE]}, "3 prompts for 2"),
        (None, {"prompt_embeds": {"count": 0}}, {}, "wrong shape"),
        (None, {"prompt_embeds": {"count": 3}, "negative_prompt_embeds": {"count": 2}}, {}, "2 negative"),
    ],
)
def test_prompts_that_do_not_fit_together_are_refused(
    ours: InpaintPipeline,
    prompt: str | None,
    shapes: Mapping[str, dict[str, int]],
    options: dict[str, Any],
    words: str,
) -> None:
    width = ours.manifest.architecture.context_width
    given: dict[str, Any] = {key: _embeddings(width, **shape) for key, shape in shapes.items()}
    with pytest.raises(PromptError, match=words):
        ours(prompt, **given, **options, **SHORT)


def test_embeddings_of_another_checkpoint_are_refused(ours: InpaintPipeline) -> None:
    width = ours.manifest.architecture.context_width
    with pytest.raises(PromptError, match=rf"(?s)width does not fit.*\[77, {width + 8}\]"):
        ours(prompt_embeds=_embeddings(width + 8))
    with pytest.raises(PromptError, match="wrong shape"):
        ours(prompt_embeds=_embeddings(width)[0])


def test_clip_skip_has_no_meaning_for_embeddings(ours: InpaintPipeline) -> None:
    with pytest.raises(ParameterError, match="clip_skip has no meaning for embeddings"):
        ours(prompt_embeds=_embeddings(ours.manifest.architecture.context_width), clip_skip=1)
