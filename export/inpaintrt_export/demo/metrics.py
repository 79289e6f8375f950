"""Measures of a repainted picture."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from inpaintrt_export.demo.judge import Judge
from inpaintrt_export.demo.world import Thing


def found_share(
    judge: Judge, pictures: Sequence[Image.Image], masks: Sequence[Image.Image], things: Sequence[Thing]
) -> float:
    """Return the share of pictures whose mask holds the object, in its colour where it has one; 0 to 1."""
    verdicts = judge.verdicts(pictures, masks)
    found = [
        verdict.kind == thing.kind and thing.colour in (None, verdict.colour)
        for verdict, thing in zip(verdicts, things, strict=True)
    ]
    return sum(found) / len(found)


def psnr(picture: Image.Image, original: Image.Image) -> float:
    """Return the peak signal-to-noise ratio of 8-bit pictures in decibels; infinite for equal pictures."""
    difference = np.asarray(picture, np.float64) - np.asarray(original, np.float64)
    error = float(np.mean(difference**2))
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)


def edge_gradient(picture: Image.Image, mask: Image.Image) -> float:
    """Return the mean absolute step between neighbours across the mask's edge, in levels of 0 to 255.

    Raises:
        ValueError: the mask has no edge inside the picture.
    """
    pixels = np.asarray(picture.convert("RGB"), np.float64)
    inside = np.asarray(mask.convert("L")) >= 128
    steps = np.concatenate([steps_across(pixels, inside), steps_across(pixels.transpose(1, 0, 2), inside.T)])
    if not len(steps):
        raise ValueError("the mask has no edge inside the picture: there is no seam to measure")
    return float(steps.mean())


def steps_across(pixels: NDArray[np.float64], inside: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the absolute steps between vertical neighbours that the mask separates, [edges, 3]."""
    separated = inside[1:] != inside[:-1]
    return np.asarray(np.abs(np.diff(pixels, axis=0))[separated])


def mean_edge_gradient(pictures: Sequence[Image.Image], masks: Sequence[Image.Image]) -> float:
    """Return the mean of the pictures' steps across the edges of their masks, in levels of 0 to 255."""
    pairs = zip(pictures, masks, strict=True)
    return float(np.mean([edge_gradient(picture, mask) for picture, mask in pairs]))


def seam(
    pictures: Sequence[Image.Image], originals: Sequence[Image.Image], masks: Sequence[Image.Image]
) -> float:
    """Return the mean step across the masks' edges, relative to that of the originals at the same edges."""
    return mean_edge_gradient(pictures, masks) / mean_edge_gradient(originals, masks)
