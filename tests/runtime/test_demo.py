"""The demo bundle: diffusers' images from its checkpoint, and images that mean what the prompt says."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from inpaintrt import InpaintPipeline
from inpaintrt.bundle import load_manifest, verify_files
from inpaintrt.demo import load_scene
from inpaintrt.store import find_bundle
from inpaintrt_demo.cases import Case, evaluation_cases
from inpaintrt_demo.classifier import load_classifier
from inpaintrt_demo.evaluation import found_share, seam
from inpaintrt_demo.world import COLORED, with_article
from runtime.image_tools import largest_difference
from runtime.reference import Reference

CHECKPOINT = Path(__file__).parents[2] / "demo" / "checkpoint"
MEGABYTE = 1e6
CASES = evaluation_cases(14)


@pytest.fixture(scope="module")
def pipe() -> InpaintPipeline:
    return InpaintPipeline.from_bundle("demo")


@pytest.fixture(scope="module")
def theirs() -> Reference:
    return Reference(CHECKPOINT)


def test_checkpoint_and_bundle_are_small_and_whole() -> None:
    weights = sum(path.stat().st_size for path in CHECKPOINT.rglob("*.safetensors"))
    assert weights < 12 * MEGABYTE
    bundle = find_bundle("demo")
    assert sum(path.stat().st_size for path in bundle.rglob("*") if path.is_file()) < 24 * MEGABYTE
    manifest = load_manifest(bundle)
    verify_files(manifest, bundle)
    assert all(exported.parity for exported in manifest.exported.values())


PARITY: dict[str, dict[str, Any]] = {
    "plain": {},
    "strength 0.6": {"strength": 0.6},
    "no guidance": {"guidance_scale": 1.0},
    "three images": {"num_images_per_prompt": 3, "seed": 7},
    "negative prompt": {"negative_prompt": "a blue balloon"},
    "crop": {"padding_mask_crop": 8},
    "latents not divisible by 8": {"height": 104, "width": 152},
    "clip_skip": {"clip_skip": 1},
}


@pytest.mark.parametrize("name", PARITY)
def test_images_equal_diffusers(pipe: InpaintPipeline, theirs: Reference, name: str) -> None:
    scene = load_scene()
    case: dict[str, Any] = {
        "prompt": "a red balloon",
        "image": scene.image,
        "mask_image": scene.mask,
        "num_inference_steps": 10,
        "seed": 0,
        **PARITY[name],
    }
    for ours, reference in zip(pipe(**case, compat="diffusers").images, theirs(**case), strict=True):
        assert np.asarray(reference).std() > 10
        assert largest_difference(ours, reference) <= 1


def _paint(pipe: InpaintPipeline, cases: Sequence[Case], **options: Any) -> list[Image.Image]:
    painted = []
    for index, case in enumerate(cases):
        request: dict[str, Any] = {"num_inference_steps": 20, "seed": index, **options}
        images = pipe(case.prompt, case.image, case.mask, **request).images
        assert isinstance(images, list)
        painted += images
    return painted


def _found(images: Sequence[Image.Image], cases: Sequence[Case] = CASES) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        classifier = load_classifier()
    return found_share(classifier, images, [case.mask for case in cases], [case.thing for case in cases])


@pytest.fixture(scope="module")
def painted(pipe: InpaintPipeline) -> list[Image.Image]:
    return _paint(pipe, CASES)


def test_the_masked_place_becomes_what_the_prompt_says(painted: list[Image.Image]) -> None:
    assert _found([case.image for case in CASES]) <= 0.1
    assert _found(painted) >= 0.75


def test_the_edge_of_the_mask_does_not_show(painted: list[Image.Image]) -> None:
    assert seam(painted, [case.image for case in CASES], [case.mask for case in CASES]) <= 1.6


def test_guidance_strengthens_the_prompt(pipe: InpaintPipeline, painted: list[Image.Image]) -> None:
    assert _found(_paint(pipe, CASES, guidance_scale=1.0)) < _found(painted)


def test_a_negative_prompt_drives_out_what_it_names(pipe: InpaintPipeline) -> None:
    cases = [case for case in evaluation_cases(28) if case.thing.kind in COLORED]
    masks = [case.mask for case in cases]
    classifier = load_classifier()

    def paint(negatives: Sequence[str | None]) -> list[Image.Image]:
        images = []
        for index, (case, negative) in enumerate(zip(cases, negatives, strict=True)):
            prompt = with_article(case.thing.kind)
            request: dict[str, Any] = {"num_inference_steps": 20, "seed": index, "negative_prompt": negative}
            images += list(pipe(prompt, case.image, case.mask, **request).images)
        return images

    before = classifier.classify(paint([None] * len(cases)), masks)
    named = [with_article(f"{seen.color} {seen.kind}") if seen.color else None for seen in before]
    after = classifier.classify(paint(named), masks)
    pairs = [(first, second) for first, second in zip(before, after, strict=True) if first.color]
    assert len(pairs) >= len(cases) / 2
    assert sum(first == second for first, second in pairs) <= len(pairs) / 4


@pytest.mark.parametrize("scheduler", ["dpmpp_2m_karras", "euler_a", "unipc"])
def test_other_samplers_keep_the_meaning(pipe: InpaintPipeline, scheduler: str) -> None:
    assert _found(_paint(pipe, CASES, scheduler=scheduler)) >= 0.7


def test_white_is_painted_and_black_is_kept(pipe: InpaintPipeline) -> None:
    case = CASES[0]
    inside = np.asarray(case.mask) > 127
    kinds: list[tuple[Image.Image, bool]] = [(case.mask, False), (ImageOps.invert(case.mask), True)]
    for mask, inverted in kinds:
        (image,) = pipe(
            case.prompt, case.image, mask, num_inference_steps=5, seed=0, mask_invert=inverted
        ).images
        difference = np.abs(np.asarray(image, np.int16) - np.asarray(case.image, np.int16)).max(axis=2)
        assert difference[~inside].max() == 0
        assert difference[inside].mean() > 5


def test_larger_images_get_the_object_at_its_place(pipe: InpaintPipeline) -> None:
    size = (192, 192)
    painted = []
    for index, case in enumerate(CASES):
        image, mask = (part.resize(size, Image.Resampling.BICUBIC) for part in (case.image, case.mask))
        image = pipe(case.prompt, image, mask, num_inference_steps=20, seed=index).images[0]
        assert image.size == size
        painted.append(image.resize(case.image.size))
    assert _found(painted) >= 0.5
