"""Checkpoints of SDXL paint what diffusers' three pipelines paint with them."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import diffusers
import msgspec
import numpy as np
import pytest

from bundles import make_tiny_bundle, make_tiny_checkpoint
from inpaintrt import InpaintPipeline
from inpaintrt.loading import load_bundle
from inpaintrt.prompts import encode_with_all
from runtime.image_tools import disc_mask, gradient, largest_difference
from runtime.reference import SAMPLERS, compare
from runtime.reference_xl import ReferenceXL
from runtime.sdxl_cases import CASES, IMAGE, INPAINTING, PROMPT, SIZE

# diffusers hands PyTorch tensors to NumPy in its schedulers, and asks for an image for each prompt.
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:__array_wrap__ must accept:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:You have passed:FutureWarning"),
]

SHORT: Mapping[str, Any] = {"num_inference_steps": 4, "seed": 0}


def opened(bundle: Path) -> InpaintPipeline:
    """A bundle, run by one thread: its networks are too small for more."""
    return InpaintPipeline(load_bundle(bundle, backend_options={"threads": 1}))


class Pair(NamedTuple):
    """A checkpoint in both libraries."""

    ours: InpaintPipeline
    theirs: ReferenceXL

    def compare(self, **case: Any) -> None:
        """Ask both for the same, as diffusers does it."""
        ours, theirs = dict(case), dict(case)
        if "scheduler" in case:
            ours["scheduler"], name, changes = SAMPLERS[case["scheduler"]]
            theirs["scheduler"] = getattr(diffusers, name).from_config(
                self.theirs.scheduler.config, **changes
            )
        compare(self.ours(**ours, compat="diffusers").images, self.theirs(**theirs))


@pytest.fixture(scope="module")
def pair(request: pytest.FixtureRequest, bundle_cache: Path) -> Pair:
    """The tiny checkpoint of a name."""
    ours = opened(make_tiny_bundle(bundle_cache, name=request.param))
    return Pair(ours, ReferenceXL(make_tiny_checkpoint(bundle_cache, request.param)))


@pytest.fixture(scope="module")
def ours(tiny_sdxl_bundle: Path) -> InpaintPipeline:
    """The one with both text encoders, for every task."""
    return opened(tiny_sdxl_bundle)


@pytest.mark.parametrize(
    ("pair", "title"),
    [(name, title) for name, cases in CASES.items() for title in cases],
    indirect=["pair"],
)
def test_images_equal_diffusers(pair: Pair, title: str, request: pytest.FixtureRequest) -> None:
    name = request.node.callspec.params["pair"]
    pair.compare(**{"prompt": PROMPT, **SHORT, **CASES[name][title]})


@pytest.mark.parametrize(
    ("pair", "task"),
    [
        ("tiny-sdxl-inpaint", INPAINTING),
        ("tiny-sdxl", SIZE),
    ],
    ids=["inpainting", "text-to-image"],
    indirect=["pair"],
)
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_images_equal_diffusers_with_every_sampler(pair: Pair, task: dict[str, Any], sampler: str) -> None:
    eta = {"eta": 1.0} if sampler == "ddim eta" else {}
    pair.compare(prompt=PROMPT, num_inference_steps=5, seed=4, **task, **eta, scheduler=sampler)


@pytest.mark.parametrize(
    "negative",
    [{}, {"negative_prompt_2": "a yellow cat"}, {"negative_prompt": "", "negative_prompt_2": "a yellow cat"}],
)
def test_a_checkpoint_without_zeros_encodes_the_empty_prompt(
    tiny_sdxl_bundle: Path, tiny_sdxl_checkpoint: Path, negative: dict[str, str]
) -> None:
    loaded = load_bundle(tiny_sdxl_bundle, backend_options={"threads": 1})
    assert loaded.manifest.architecture.zeros_for_absent_negative
    architecture = msgspec.structs.replace(loaded.manifest.architecture, zeros_for_absent_negative=False)
    manifest = msgspec.structs.replace(loaded.manifest, architecture=architecture)
    theirs = ReferenceXL(tiny_sdxl_checkpoint, force_zeros_for_empty_prompt=False)
    with InpaintPipeline(replace(loaded, manifest=manifest)) as ours:
        Pair(ours, theirs).compare(prompt=PROMPT, **SHORT, **SIZE, **negative)


def paint(pipe: InpaintPipeline, **options: Any) -> Any:
    return pipe(**{"prompt": PROMPT, **SHORT, **options}).images[0]


@pytest.mark.parametrize(
    "options",
    [
        {"prompt_2": "a blue house"},
        {"negative_prompt": ""},
        {"negative_prompt": "", "negative_prompt_2": "a yellow cat"},
        {"original_size": (512, 512)},
        {"crops_coords_top_left": (0, 200)},
        {"target_size": (512, 512)},
        {"negative_original_size": (512, 512)},
        {"negative_crops_coords_top_left": (0, 200)},
        {"negative_target_size": (512, 512)},
        {"clip_skip": 1},
        {"guidance_rescale": 0.9},
    ],
    ids=str,
)
def test_each_option_changes_the_image(ours: InpaintPipeline, options: dict[str, Any]) -> None:
    assert largest_difference(paint(ours), paint(ours, **options)) > 1


@pytest.mark.parametrize("name", ["aesthetic_score", "negative_aesthetic_score"])
@pytest.mark.parametrize("task", [INPAINTING, {"image": IMAGE, "strength": 0.9}, SIZE])
def test_scores_change_a_refiners_image(
    tiny_sdxl_refiner_bundle: Path, name: str, task: dict[str, Any]
) -> None:
    with opened(tiny_sdxl_refiner_bundle) as pipe:
        images = [paint(pipe, **task, **{name: score}) for score in (1.0, 9.0)]
    assert largest_difference(*images) > 1


def test_a_refiner_paints_without_an_image(tiny_sdxl_refiner_bundle: Path) -> None:
    with opened(tiny_sdxl_refiner_bundle) as pipe:
        image = paint(pipe)
    assert image.size == (64, 64)
    assert np.asarray(image).std() > 10


@pytest.mark.parametrize("task", [INPAINTING, SIZE])
def test_the_embeddings_of_texts_give_the_image_of_the_texts(
    ours: InpaintPipeline, task: dict[str, Any]
) -> None:
    texts = [[PROMPT, "a tree"], ["a blue house", "the moon"]]
    encoded = encode_with_all(ours.stages.prompts.encoders, texts, clip_skip=[0, 0])
    assert encoded.pooled is not None
    given = paint(
        ours,
        prompt=None,
        prompt_embeds=encoded.embeddings[:1],
        pooled_prompt_embeds=encoded.pooled[:1],
        negative_prompt_embeds=encoded.embeddings[1:],
        negative_pooled_prompt_embeds=encoded.pooled[1:],
        **task,
    )
    words = {"prompt_2": "a blue house", "negative_prompt": "a tree", "negative_prompt_2": "the moon"}
    assert largest_difference(given, paint(ours, **words, **task)) == 0


def test_a_second_prompt_that_is_the_first_changes_nothing(ours: InpaintPipeline) -> None:
    assert largest_difference(paint(ours), paint(ours, prompt_2=PROMPT)) == 0


def test_symmetric_guidance_subtracts_the_negative_prompt_from_zeros(ours: InpaintPipeline) -> None:
    options = {"negative_prompt": "a tree", **SIZE}
    symmetric = paint(ours, negative_mode="symmetric", **options)
    assert largest_difference(symmetric, paint(ours, **options)) > 1
    with_second = paint(ours, negative_mode="symmetric", negative_prompt_2="the moon", **options)
    assert largest_difference(symmetric, with_second) > 1


def test_prompts_of_several_windows_count_whole(ours: InpaintPipeline) -> None:
    long = "a red balloon and " * 40
    options: dict[str, Any] = {"long_prompts": "windows", **SIZE}
    images = [paint(ours, prompt=f"{long}{end}", **options) for end in ("a tree", "a house")]
    assert largest_difference(*images) > 1
    seconds = [paint(ours, prompt_2=f"{long}{end}", **options) for end in ("a tree", "a house")]
    assert largest_difference(*seconds) > 1


@pytest.mark.parametrize("pair", ["tiny-sdxl", "tiny-sdxl-inpaint"], indirect=True)
def test_a_soft_mask_changes_an_image_by_its_grey_values(pair: Pair) -> None:
    side = IMAGE.width
    grey = np.zeros((side, side), np.uint8)
    grey[:, side // 4 : side // 2], grey[:, side // 2 :] = 64, 255
    options: dict[str, Any] = {"num_inference_steps": 10, "match_colors": False, "mask_mode": "soft"}
    found = paint(pair.ours, image=IMAGE, mask_image=grey, **options)
    change = np.abs(np.asarray(found, np.float32) - np.asarray(IMAGE, np.float32)).mean(axis=(0, 2))
    quarter = side // 4
    assert change[:quarter].max() == 0
    assert 0 < change[quarter : 2 * quarter].mean() < change[2 * quarter :].mean()


def test_what_is_kept_of_an_image_stays_to_the_bit(ours: InpaintPipeline) -> None:
    found = paint(ours, image=gradient(200, 150), mask_image=disc_mask(200, 150), match_colors=False)
    kept = np.asarray(disc_mask(200, 150)) == 0
    assert np.array_equal(np.asarray(found)[kept], np.asarray(gradient(200, 150))[kept])
