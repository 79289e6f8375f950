"""Unseen scenes with a masked place each, and the object that a prompt asks for there."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from inpaintrt_demo.drawing import Box
from inpaintrt_demo.masks import HIDDEN, as_image, box_mask, hidden_share
from inpaintrt_demo.world import (
    IMAGE_SIZE,
    KINDS,
    Scene,
    Thing,
    draw,
    kinds_of,
    overlap,
    random_scene,
    thing_of_kind,
    with_article,
)

CASE_SEEDS = 9_000_000  # where the seeds of scenes begin that no training has seen
CUT_SEEDS = 9_700_000
GROWTH = 1.3  # of the mask beyond the box that an object of the size would have
CUT = 0.25  # of an object's box, from which on a mask cuts through it
STROKES = 4


@dataclass(frozen=True)
class Case:
    """An image, its mask (white: repaint), and the object to appear."""

    seed: int
    image: Image.Image
    mask: Image.Image
    thing: Thing

    @property
    def prompt(self) -> str:
        """The object in words."""
        return with_article(self.thing.name)


def evaluation_cases(count: int, size: int = IMAGE_SIZE) -> list[Case]:
    """Return cases with fixed seeds, the kinds of objects taking turns."""
    return [
        evaluation_case(CASE_SEEDS + 1000 * index, KINDS[index % len(KINDS)], size) for index in range(count)
    ]


def cut_cases(count: int, size: int = IMAGE_SIZE) -> list[Case]:
    """Return cases whose mask cuts through another object, which stays outside of it in part."""
    return [
        evaluation_case(CUT_SEEDS + 1000 * index, KINDS[index % len(KINDS)], size, cuts)
        for index in range(count)
    ]


def stroke_cases(count: int, size: int = IMAGE_SIZE) -> list[Case]:
    """Return the cases of `evaluation_cases` with masks that are drawn by a brush."""
    return [
        replace(case, mask=stroke_mask(np.random.default_rng((case.seed, 4)), case.thing.box, size))
        for case in evaluation_cases(count, size)
    ]


def stroke_mask(rng: np.random.Generator, box: Box, size: int) -> Image.Image:
    """Return a mask of strokes to and fro over the box, with ragged ends and round caps."""
    left, top, right, bottom = (edge * size for edge in box)
    step = (bottom - top) / STROKES
    points = []
    for stroke in range(STROKES):
        ends = [left, right] if stroke % 2 == 0 else [right, left]
        height = top + (stroke + 0.5) * step
        points += [(end + rng.normal(0, 0.3 * step), height + rng.normal(0, 0.1 * step)) for end in ends]
    mask = Image.new("L", (size, size), 0)
    pen, radius = ImageDraw.Draw(mask), 0.7 * step
    pen.line(points, fill=255, width=round(2 * radius))
    for across, down in points:
        pen.ellipse((across - radius, down - radius, across + radius, down + radius), fill=255)
    return mask


def is_free(scene: Scene, thing: Thing) -> bool:
    """Tell whether the masked place touches no object of the scene."""
    margin = (GROWTH - 1) / 2 * (thing.box[2] - thing.box[0])
    return not any(overlap(thing.box, other.box, margin) for other in scene.things)


def cuts(scene: Scene, thing: Thing) -> bool:
    """Tell whether the masked place cuts through an object of the scene, and hides none."""
    mask = box_mask(thing.box, GROWTH, IMAGE_SIZE)
    shares = [hidden_share(mask, other.box) for other in scene.things]
    return any(share >= CUT for share in shares) and all(share < HIDDEN for share in shares)


def evaluation_case(
    first_seed: int, kind: str, size: int, fits: Callable[[Scene, Thing], bool] = is_free
) -> Case:
    """Return a case for the kind, from the first seed whose scene has a fitting place for it."""
    seed = first_seed
    while True:
        rng = np.random.default_rng((seed, 3))
        scene = random_scene(seed)
        if kind in kinds_of(scene):
            thing = thing_of_kind(rng, scene, kind)
            if fits(scene, thing):
                return Case(seed, draw(scene, size), as_image(box_mask(thing.box, GROWTH, size)), thing)
        seed += 1


@dataclass(frozen=True)
class DemoScene:
    """Which scene, where, and what to ask for."""

    first_seed: int
    kind: str  # whose usual place is masked
    prompts: tuple[str, ...]
    seed: int  # of the noise


DEMO = DemoScene(9_504_000, "balloon", ("a red balloon", "a blue balloon", "a cloud"), 0)


def write_assets(folder: Path, demo: DemoScene = DEMO) -> None:
    """Write input.png, mask.png (white: repaint) and prompts.json."""
    case = evaluation_case(demo.first_seed, demo.kind, IMAGE_SIZE)
    folder.mkdir(parents=True, exist_ok=True)
    save_png(case.image, folder / "input.png")
    save_png(case.mask, folder / "mask.png")
    (folder / "prompts.json").write_text(
        json.dumps({"prompts": demo.prompts, "seed": demo.seed}, indent=2) + "\n"
    )


def save_png(image: Image.Image, file: Path) -> None:
    """Write a small PNG."""
    image.save(file, optimize=True)
