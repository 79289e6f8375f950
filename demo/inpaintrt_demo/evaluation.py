"""The evaluation: does the masked place become what the prompt says, and how well does it fit in."""

import json
import math
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
from diffusers import AutoencoderKL
from numpy.typing import NDArray
from PIL import Image

from inpaintrt_demo.autoencoder import rebuild
from inpaintrt_demo.cases import Case, cut_cases, evaluation_cases, stroke_cases
from inpaintrt_demo.classifier import Classifier, load_classifier, random_example
from inpaintrt_demo.painters import Job, Painter, RuntimePainter
from inpaintrt_demo.world import (
    COLOR_NAMES,
    COLORED,
    IMAGE_SIZE,
    KINDS,
    Thing,
    draw,
    random_scene,
    with_article,
)

STEPS = 20
GUIDANCE = 7.5
CLASSIFIER_SEEDS = 8_000_000
REBUILT_SEEDS = 8_500_000
PACKAGES = ("inpaintrt", "numpy", "pillow", "torch", "diffusers", "transformers")
COLUMNS = 8
GAP = 2
GREY = (128, 128, 128)


def found_share(
    classifier: Classifier,
    images: Sequence[Image.Image],
    masks: Sequence[Image.Image],
    things: Sequence[Thing],
) -> float:
    """Return the share of images whose mask holds the object, in its color where it has one; 0 to 1."""
    seen_objects = classifier.classify(images, masks)
    found = [
        seen.kind == thing.kind and thing.color in (None, seen.color)
        for seen, thing in zip(seen_objects, things, strict=True)
    ]
    return sum(found) / len(found)


def psnr(image: Image.Image, original: Image.Image) -> float:
    """Return the peak signal-to-noise ratio of 8-bit images in decibels; infinite for equal images."""
    difference = np.asarray(image, np.float64) - np.asarray(original, np.float64)
    error = float(np.mean(difference**2))
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)


def edge_gradient(image: Image.Image, mask: Image.Image) -> float:
    """Return the mean absolute step between neighbours across the mask's edge, in levels of 0 to 255.

    Raises:
        ValueError: the mask has no edge inside the image.
    """
    pixels = np.asarray(image.convert("RGB"), np.float64)
    inside = np.asarray(mask.convert("L")) >= 128
    steps = np.concatenate([steps_across(pixels, inside), steps_across(pixels.transpose(1, 0, 2), inside.T)])
    if not len(steps):
        raise ValueError("the mask has no edge inside the image: there is no seam to measure")
    return float(steps.mean())


def steps_across(pixels: NDArray[np.float64], inside: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the absolute steps between vertical neighbours that the mask separates, [edges, 3]."""
    separated = inside[1:] != inside[:-1]
    return np.asarray(np.abs(np.diff(pixels, axis=0))[separated])


def mean_edge_gradient(images: Sequence[Image.Image], masks: Sequence[Image.Image]) -> float:
    """Return the mean of the images' steps across the edges of their masks, in levels of 0 to 255."""
    pairs = zip(images, masks, strict=True)
    return float(np.mean([edge_gradient(image, mask) for image, mask in pairs]))


def seam(
    images: Sequence[Image.Image], originals: Sequence[Image.Image], masks: Sequence[Image.Image]
) -> float:
    """Return the mean step across the masks' edges, relative to that of the originals at the same edges."""
    return mean_edge_gradient(images, masks) / mean_edge_gradient(originals, masks)


@dataclass(frozen=True)
class Report:
    """What was measured; shares are 0 to 1."""

    cases: int
    steps: int
    guidance: float
    painter: str
    found: float
    found_by_kind: dict[str, float]
    found_when_cut: float  # where the mask cuts through another object
    found_under_strokes: float  # where the mask is drawn by a brush
    found_without_guidance: float
    found_when_negated: float
    color_when_open: float  # the case's color, when the prompt names none
    color_when_negated: float  # the same with that color as negative prompt
    seam: float  # the step across the mask's edge, relative to the original's
    seam_after_vae: float | None  # the same when the originals only went through the autoencoder
    original_step: float  # of the originals across the masks' edges, in levels of 0 to 255
    vae_psnr: float | None  # decibels; only where the checkpoint's autoencoder is at hand
    classifier_accuracy: float
    command: str
    versions: dict[str, str]


def jobs_of(cases: Sequence[Case], *, negated: bool = False) -> list[Job]:
    """Return the cases as jobs, their own prompts also as negative prompts where negated."""
    return [
        Job(case.prompt, case.prompt if negated else "", case.image, case.mask, index)
        for index, case in enumerate(cases)
    ]


def open_jobs(cases: Sequence[Case], *, negated: bool) -> list[Job]:
    """Return jobs whose prompts name no color; negated, the case's color is the negative prompt."""
    return [
        Job(with_article(case.thing.kind), case.prompt if negated else "", case.image, case.mask, index)
        for index, case in enumerate(cases)
    ]


def evaluate(
    painter: Painter, classifier: Classifier, vae: AutoencoderKL | None, count: int, command: str
) -> Report:
    """Run all measurements."""
    cases = evaluation_cases(count)
    colored = [case for case in evaluation_cases(2 * count) if case.thing.kind in COLORED][:count]
    guided = painter.paint(jobs_of(cases), GUIDANCE, STEPS)
    originals, masks = [case.image for case in cases], [case.mask for case in cases]
    return Report(
        cases=count,
        steps=STEPS,
        guidance=GUIDANCE,
        painter=painter.name,
        found=found_in(classifier, guided, cases),
        found_by_kind=found_by_kind(classifier, guided, cases),
        found_when_cut=painted_and_found(painter, classifier, cut_cases(count)),
        found_under_strokes=painted_and_found(painter, classifier, stroke_cases(count)),
        found_without_guidance=found_in(classifier, painter.paint(jobs_of(cases), 1.0, STEPS), cases),
        found_when_negated=found_in(
            classifier, painter.paint(jobs_of(cases, negated=True), GUIDANCE, STEPS), cases
        ),
        color_when_open=found_in(
            classifier, painter.paint(open_jobs(colored, negated=False), GUIDANCE, STEPS), colored
        ),
        color_when_negated=found_in(
            classifier, painter.paint(open_jobs(colored, negated=True), GUIDANCE, STEPS), colored
        ),
        seam=seam(guided, originals, masks),
        seam_after_vae=None if vae is None else seam(rebuilt(vae, cases), originals, masks),
        original_step=mean_edge_gradient(originals, masks),
        vae_psnr=None if vae is None else vae_psnr(vae, count),
        classifier_accuracy=classifier_accuracy(classifier, 4 * count),
        command=command,
        versions={"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
    )


def found_in(classifier: Classifier, images: Sequence[Image.Image], cases: Sequence[Case]) -> float:
    """Return the share of cases whose object is found."""
    return found_share(classifier, images, [case.mask for case in cases], [case.thing for case in cases])


def painted_and_found(painter: Painter, classifier: Classifier, cases: Sequence[Case]) -> float:
    """Return the share of cases whose object is found after painting them."""
    return found_in(classifier, painter.paint(jobs_of(cases), GUIDANCE, STEPS), cases)


def few_steps(bundle: str | Path, lora: Path | None, steps: int, count: int) -> dict[str, float]:
    """Return the shares found by a bundle in all steps and in few, and with a LoRA for few steps."""
    classifier, cases = load_classifier(), evaluation_cases(count)
    undistilled = RuntimePainter(bundle)
    trailing = RuntimePainter(bundle, scheduler="ddim", timestep_spacing="trailing")
    runs = {
        f"{STEPS} steps": (undistilled, GUIDANCE, STEPS),
        f"{steps} steps": (undistilled, GUIDANCE, steps),
        f"{steps} steps, ddim, trailing": (trailing, GUIDANCE, steps),
        f"{steps} steps, ddim, trailing, without guidance": (trailing, 1.0, steps),
    }
    if lora is not None:
        painter = RuntimePainter(bundle, [lora], preset="lcm-lora")
        runs[f"{steps} steps, {lora.name}, without guidance"] = (painter, 1.0, steps)
    jobs = jobs_of(cases)
    return {
        name: found_in(classifier, painter.paint(jobs, guidance, number), cases)
        for name, (painter, guidance, number) in runs.items()
    }


def found_by_kind(
    classifier: Classifier, images: Sequence[Image.Image], cases: Sequence[Case]
) -> dict[str, float]:
    """Return the share of cases found, for each kind of object."""
    shares = {}
    for kind in KINDS:
        chosen = [index for index, case in enumerate(cases) if case.thing.kind == kind]
        if chosen:
            shares[kind] = found_in(
                classifier, [images[index] for index in chosen], [cases[index] for index in chosen]
            )
    return shares


def rebuilt(vae: AutoencoderKL, cases: Sequence[Case]) -> list[Image.Image]:
    """Return the images with their masked places as the autoencoder leaves them."""
    return [Image.composite(rebuild(vae, case.image), case.image, case.mask) for case in cases]


def vae_psnr(vae: AutoencoderKL, count: int) -> float:
    """Return the mean PSNR of unseen drawn images after the autoencoder, in decibels."""
    images = [draw(random_scene(REBUILT_SEEDS + index), IMAGE_SIZE) for index in range(count)]
    return float(np.mean([psnr(rebuild(vae, image), image) for image in images]))


def classifier_accuracy(classifier: Classifier, count: int) -> float:
    """Return the share of drawn examples of which the classifier names kind and color rightly."""
    examples = [random_example(CLASSIFIER_SEEDS + index, IMAGE_SIZE) for index in range(count)]
    seen_objects = classifier.classify(
        [example.image for example in examples], [example.mask for example in examples]
    )
    right = [
        (seen.kind, seen.color) == ((*KINDS, None)[example.kind], (*COLOR_NAMES, None)[example.color])
        for seen, example in zip(seen_objects, examples, strict=True)
    ]
    return sum(right) / len(right)


def write_report(report: Report, file: Path) -> None:
    """Write the report as JSON, fractions to four places."""
    file.write_text(json.dumps(rounded(asdict(report)), indent=2) + "\n")


def rounded(value: object) -> object:
    """Return the value with every fraction in it rounded to four places."""
    if isinstance(value, dict):
        return {key: rounded(inner) for key, inner in value.items()}
    return round(value, 4) if isinstance(value, float) else value


def sample_sheet(painter: Painter, count: int, guidance: float) -> Image.Image:
    """Return masked images, each above its result, in rows of eight."""
    cases = evaluation_cases(count)
    results = painter.paint(jobs_of(cases), guidance, STEPS)
    return sheet([(masked_image(case), result) for case, result in zip(cases, results, strict=True)])


def masked_image(case: Case) -> Image.Image:
    """Return the image with its masked place in grey."""
    return Image.composite(Image.new("RGB", case.image.size, GREY), case.image, case.mask)


def sheet(pairs: list[tuple[Image.Image, Image.Image]]) -> Image.Image:
    """Return pairs of images, one above the other, in rows of eight pairs."""
    width, height = (side + GAP for side in pairs[0][0].size)
    rows = -(-len(pairs) // COLUMNS)
    whole = Image.new("RGB", (COLUMNS * width, rows * 2 * height))
    for index, pair in enumerate(pairs):
        row, column = divmod(index, COLUMNS)
        for half, image in enumerate(pair):
            whole.paste(image, (column * width, (2 * row + half) * height))
    return whole
