"""Masks for training, with the caption of what they hide."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from inpaintrt_demo.drawing import Box, Ellipse, Shape, grid, rectangle
from inpaintrt_demo.world import Scene, Thing, with_article

HIDDEN = 0.6  # of an object's box, from which on a caption names the object
TOUCHED = 0.12  # from which on a mask without a hidden object is no longer empty
AROUND_THING = 0.72
EVERYTHING = 0.06
PLACES = {"sky": "in the sky", "land": "on the hills", "water": "on the water"}
EMPTY_PLACES = {"sky": "the empty sky", "land": "empty hills", "water": "calm water"}


@dataclass(frozen=True)
class Masked:
    """A mask, True where to repaint, [size, size], and what is to appear there."""

    mask: NDArray[np.bool_]
    caption: str


def random_masked(rng: np.random.Generator, scene: Scene, size: int) -> Masked:
    """Return a random mask for the scene: around an object, anywhere, or everything."""
    choice = rng.random()
    if choice < EVERYTHING:
        return Masked(np.ones((size, size), np.bool_), scene.caption)
    if scene.things and choice < EVERYTHING + AROUND_THING:
        mask = around(rng, scene.things[rng.integers(len(scene.things))].box, size)
    else:
        mask = around(rng, random_box(rng), size)
    return Masked(mask, caption(rng, scene, mask))


def random_box(rng: np.random.Generator) -> Box:
    """Return a box of a tenth to half the side, anywhere in the image."""
    width, height = rng.uniform(0.1, 0.5, 2)
    left, top = rng.uniform(0, 1 - width), rng.uniform(0, 1 - height)
    return float(left), float(top), float(left + width), float(top + height)


def around(rng: np.random.Generator, box: Box, size: int) -> NDArray[np.bool_]:
    """Return a box or an ellipse that generously holds the box, [size, size]."""
    growth = rng.uniform(1.1, 1.6, 2)
    center = rng.uniform(-0.02, 0.02, 2) + (np.array(box[:2]) + np.array(box[2:])) / 2
    half = (np.array(box[2:]) - np.array(box[:2])) / 2 * growth
    shape: Shape
    if rng.random() < 0.6:
        shape = rectangle(*(center - half).tolist(), *(center + half).tolist())
    else:
        shape = Ellipse((center[0], center[1]), (half[0] * 1.15, half[1] * 1.15))
    return rasterise(shape, size)


def rasterise(shape: Shape, size: int) -> NDArray[np.bool_]:
    """Return where the pixel centres lie inside the shape, [size, size]."""
    return np.asarray(shape.distance(*grid(size)) <= 0)


def box_mask(box: Box, growth: float, size: int) -> NDArray[np.bool_]:
    """Return the box grown about its center as a mask, [size, size]."""
    center = (np.array(box[:2]) + np.array(box[2:])) / 2
    half = (np.array(box[2:]) - np.array(box[:2])) / 2 * growth
    return rasterise(rectangle(*(center - half).tolist(), *(center + half).tolist()), size)


def as_image(mask: NDArray[np.bool_]) -> Image.Image:
    """Return a mask as an image, white where True."""
    return Image.fromarray(mask.astype(np.uint8) * 255)


def hidden_share(mask: NDArray[np.bool_], box: Box) -> float:
    """Return how much of the box the mask covers, 0 to 1."""
    size = mask.shape[0]
    left, top, right, bottom = (min(max(round(edge * size), 0), size) for edge in box)
    return float(mask[top:bottom, left:right].mean())


def caption(rng: np.random.Generator, scene: Scene, mask: NDArray[np.bool_]) -> str:
    """Return words for what the mask hides; empty where a mask touches an object without hiding it."""
    shares = [hidden_share(mask, thing.box) for thing in scene.things]
    hidden = [thing for thing, share in zip(scene.things, shares, strict=True) if share >= HIDDEN]
    if hidden:
        return phrase(rng, scene, hidden)
    if any(share > TOUCHED for share in shares):
        return ""
    return EMPTY_PLACES[zone_of(scene, mask)]


def phrase(rng: np.random.Generator, scene: Scene, things: list[Thing]) -> str:
    """Return the objects in words, sometimes with their place and the time of day."""
    names = " and ".join(with_article(thing.kind if rng.random() < 0.1 else thing.name) for thing in things)
    if len(things) == 1 and rng.random() < 0.25:
        names += " " + PLACES[things[0].zone]
    if rng.random() < 0.3:
        names += " " + scene.daytime.phrase
    return names


def zone_of(scene: Scene, mask: NDArray[np.bool_]) -> str:
    """Return in which zone the middle of the mask lies."""
    middle = float(np.mean(np.nonzero(mask)[0])) / mask.shape[0] if mask.any() else 0.0
    if middle >= scene.shore:
        return "water"
    return "land" if middle >= scene.horizon else "sky"
