"""Unseen scenes with an empty masked place each, and the object that a prompt asks for there."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from inpaintrt_demo.masks import as_image, box_mask
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
GROWTH = 1.3  # of the mask beyond the box that an object of the size would have


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


def evaluation_case(first_seed: int, kind: str, size: int) -> Case:
    """Return a case for the kind, from the first seed whose scene has an empty place for it."""
    seed = first_seed
    while True:
        rng = np.random.default_rng((seed, 3))
        scene = random_scene(seed)
        if kind in kinds_of(scene):
            thing = thing_of_kind(rng, scene, kind)
            if is_free(scene, thing):
                return Case(seed, draw(scene, size), as_image(box_mask(thing.box, GROWTH, size)), thing)
        seed += 1


def is_free(scene: Scene, thing: Thing) -> bool:
    """Tell whether the masked place touches no object of the scene."""
    margin = (GROWTH - 1) / 2 * (thing.box[2] - thing.box[0])
    return not any(overlap(thing.box, other.box, margin) for other in scene.things)


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
