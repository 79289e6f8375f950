"""The evaluation: does the masked place become what the prompt says, and how well does it fit in."""

import json
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
from diffusers import AutoencoderKL
from PIL import Image

from inpaintrt_export.demo.cases import Case, evaluation_cases
from inpaintrt_export.demo.judge import Judge
from inpaintrt_export.demo.judge_training import random_example, rebuild
from inpaintrt_export.demo.metrics import found_share, mean_edge_gradient, psnr, seam
from inpaintrt_export.demo.painters import Job, Painter
from inpaintrt_export.demo.things import COLOURED
from inpaintrt_export.demo.world import COLOUR_NAMES, KINDS, PICTURE_SIZE, draw, random_scene, with_article

STEPS = 20
GUIDANCE = 7.5
JUDGE_SEEDS = 8_000_000
REBUILT_SEEDS = 8_500_000
PACKAGES = ("inpaintrt", "numpy", "pillow", "torch", "diffusers", "transformers")


@dataclass(frozen=True)
class Report:
    """What was measured; shares are 0 to 1."""

    cases: int
    steps: int
    guidance: float
    painter: str
    found: float
    found_by_kind: dict[str, float]
    found_without_guidance: float
    found_when_negated: float
    colour_when_open: float  # the case's colour, when the prompt names none
    colour_when_negated: float  # the same with that colour as negative prompt
    seam: float  # the step across the mask's edge, relative to the original's
    seam_after_vae: float | None  # the same when the originals only went through the autoencoder
    original_step: float  # of the originals across the masks' edges, in levels of 0 to 255
    vae_psnr: float | None  # decibels; only where the checkpoint's autoencoder is at hand
    judge_accuracy: float
    command: str
    versions: dict[str, str]


def jobs_of(cases: Sequence[Case], *, negated: bool = False) -> list[Job]:
    """Return the cases as jobs, their own prompts also as negative prompts where negated."""
    return [
        Job(case.prompt, case.prompt if negated else "", case.picture, case.mask, index)
        for index, case in enumerate(cases)
    ]


def open_jobs(cases: Sequence[Case], *, negated: bool) -> list[Job]:
    """Return jobs whose prompts name no colour; negated, the case's colour is the negative prompt."""
    return [
        Job(with_article(case.thing.kind), case.prompt if negated else "", case.picture, case.mask, index)
        for index, case in enumerate(cases)
    ]


def evaluate(painter: Painter, judge: Judge, vae: AutoencoderKL | None, count: int, command: str) -> Report:
    """Run all measurements."""
    cases = evaluation_cases(count)
    coloured = [case for case in evaluation_cases(2 * count) if case.thing.kind in COLOURED][:count]
    guided = painter.paint(jobs_of(cases), GUIDANCE, STEPS)
    originals, masks = [case.picture for case in cases], [case.mask for case in cases]
    return Report(
        cases=count,
        steps=STEPS,
        guidance=GUIDANCE,
        painter=painter.name,
        found=found_in(judge, guided, cases),
        found_by_kind=found_by_kind(judge, guided, cases),
        found_without_guidance=found_in(judge, painter.paint(jobs_of(cases), 1.0, STEPS), cases),
        found_when_negated=found_in(
            judge, painter.paint(jobs_of(cases, negated=True), GUIDANCE, STEPS), cases
        ),
        colour_when_open=found_in(
            judge, painter.paint(open_jobs(coloured, negated=False), GUIDANCE, STEPS), coloured
        ),
        colour_when_negated=found_in(
            judge, painter.paint(open_jobs(coloured, negated=True), GUIDANCE, STEPS), coloured
        ),
        seam=seam(guided, originals, masks),
        seam_after_vae=None if vae is None else seam(rebuilt(vae, cases), originals, masks),
        original_step=mean_edge_gradient(originals, masks),
        vae_psnr=None if vae is None else vae_psnr(vae, count),
        judge_accuracy=judge_accuracy(judge, 4 * count),
        command=command,
        versions={"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
    )


def found_in(judge: Judge, pictures: Sequence[Image.Image], cases: Sequence[Case]) -> float:
    """Return the share of cases whose object is found."""
    return found_share(judge, pictures, [case.mask for case in cases], [case.thing for case in cases])


def found_by_kind(judge: Judge, pictures: Sequence[Image.Image], cases: Sequence[Case]) -> dict[str, float]:
    """Return the share of cases found, for each kind of object."""
    shares = {}
    for kind in KINDS:
        chosen = [index for index, case in enumerate(cases) if case.thing.kind == kind]
        if chosen:
            shares[kind] = found_in(
                judge, [pictures[index] for index in chosen], [cases[index] for index in chosen]
            )
    return shares


def rebuilt(vae: AutoencoderKL, cases: Sequence[Case]) -> list[Image.Image]:
    """Return the pictures with their masked places as the autoencoder leaves them."""
    return [Image.composite(rebuild(vae, case.picture), case.picture, case.mask) for case in cases]


def vae_psnr(vae: AutoencoderKL, count: int) -> float:
    """Return the mean PSNR of unseen drawn pictures after the autoencoder, in decibels."""
    pictures = [draw(random_scene(REBUILT_SEEDS + index), PICTURE_SIZE) for index in range(count)]
    return float(np.mean([psnr(rebuild(vae, picture), picture) for picture in pictures]))


def judge_accuracy(judge: Judge, count: int) -> float:
    """Return the share of drawn examples of which the judge names kind and colour rightly."""
    examples = [random_example(JUDGE_SEEDS + index, PICTURE_SIZE) for index in range(count)]
    verdicts = judge.verdicts(
        [example.picture for example in examples], [example.mask for example in examples]
    )
    right = [
        (verdict.kind, verdict.colour)
        == ((*KINDS, None)[example.kind], (*COLOUR_NAMES, None)[example.colour])
        for verdict, example in zip(verdicts, examples, strict=True)
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
