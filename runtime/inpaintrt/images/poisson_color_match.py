"""Colors that continue over the mask's edge: what the VAE got wrong outside is taken back inside, too.

The VAE shifts colors a little everywhere. Pasted back, that shift would show as a seam. Around the mask it is
known, and inside it is continued as smoothly as possible: the seamless cloning of Pérez, Gangnet and Blake,
"Poisson image editing" (2003), equation 7. Where the mask cuts through an object that the model painted
differently, the images differ in content rather than in color; such pixels are left out, since the object's
colors would bleed into the mask.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from inpaintrt.images.masks import bounding_box

__all__ = ["harmonic_fill", "match_colors"]

Floats = NDArray[np.float32]

_SWEEPS = 4
_SAMPLED_SIDE = 64
_SMALLEST_LIMIT = 6.0
_LIMIT_IN_MEDIANS = 3.0
_CONTENT_IN_LIMITS = 8.0


def match_colors(result: Image.Image, original: Image.Image, mask: Image.Image) -> Image.Image:
    """Shift the result's colors under the mask so that they meet the original's at the mask's edge.

    No color is shifted by more than three times the median error of the pixels that are kept (or by 6 levels
    of 255, if that is more). Pixels that differ by more than eight times this limit count as other content.

    Args:
        result: What the VAE decoded, mode "RGB".
        original: What it should equal where the mask is 0, mode "RGB", of the same size.
        mask: Mode "L", of the same size.

    Returns:
        The result with its colors shifted, and the original's pixels where the mask is 0; where nothing of
        the original is kept, the result itself.
    """
    kept = np.asarray(mask) == 0
    box = bounding_box(mask, 1)
    if box is None or not kept.any():
        return result
    wanted, decoded = np.asarray(original), np.array(result)
    limit = _largest_shift(wanted, decoded, kept)
    ringed = (slice(max(box.top - 1, 0), box.bottom + 1), slice(max(box.left - 1, 0), box.right + 1))
    difference = np.subtract(wanted[ringed], decoded[ringed], dtype=np.float32)
    comparable = kept[ringed] & (np.abs(difference).max(axis=2) <= _CONTENT_IN_LIMITS * limit)
    shift = harmonic_fill(np.clip(difference, -limit, limit), comparable)
    decoded[ringed] = np.clip(np.rint(decoded[ringed] + shift), 0, 255)
    return Image.fromarray(np.where(kept[:, :, None], wanted, decoded))


def _largest_shift(wanted: NDArray[np.uint8], decoded: NDArray[np.uint8], kept: NDArray[np.bool_]) -> float:
    """What a VAE does to colors at most, in levels of 255, from a sample of the pixels that are kept."""
    stride = max(1, min(kept.shape) // _SAMPLED_SIDE)
    sampled = kept[::stride, ::stride]
    sample = (slice(None, None, stride),) * 2 if sampled.any() else (slice(None),) * 2
    errors = np.abs(np.subtract(wanted[sample], decoded[sample], dtype=np.int16)).max(axis=2)
    return max(_SMALLEST_LIMIT, _LIMIT_IN_MEDIANS * float(np.median(errors[kept[sample]])))


def harmonic_fill(values: Floats, known: NDArray[np.bool_]) -> Floats:
    """Continue values smoothly to where they are not known: an approximation of Laplace's equation.

    Coarse levels are solved first, each gives the next finer one its start (push-pull, Gortler et al., "The
    lumigraph", 1996), and a few sweeps of Jacobi's method smooth it.

    Args:
        values: `[height, width, channels]`; those at unknown places are not used.
        known: `[height, width]`.

    Returns:
        `[height, width, channels]`, equal to `values` where they are known; zero if they are nowhere.
    """
    held = known[:, :, None]
    return _fill(np.concatenate([np.where(held, values, 0), held], axis=2, dtype=np.float32))


def _fill(weighted: Floats) -> Floats:
    """The values of `[height, width, channels + 1]`, the last channel of which is 1 where they are known."""
    values, held = weighted[:, :, :-1], weighted[:, :, -1:] > 0
    if held.all() or not held.any():
        return values
    height, width = held.shape[:2]
    coarse = _fill(_halve(weighted))
    filled = np.where(held, values, coarse.repeat(2, axis=0).repeat(2, axis=1)[:height, :width])
    for _ in range(_SWEEPS):
        filled = np.where(held, values, _average_of_neighbours(filled))
    return filled


def _halve(weighted: Floats) -> Floats:
    """Blocks of 2 x 2, each the mean of what is known in it."""
    height, width, channels = weighted.shape
    if height % 2 or width % 2:
        padded = np.zeros((height + height % 2, width + width % 2, channels), np.float32)
        padded[:height, :width] = weighted
        weighted = padded
    rows = weighted[0::2] + weighted[1::2]
    blocks: Floats = rows[:, 0::2] + rows[:, 1::2]
    blocks /= np.maximum(blocks[:, :, -1:], 1)
    return blocks


def _average_of_neighbours(values: Floats) -> Floats:
    """Beyond an edge, a value is its own neighbour."""
    total = np.concatenate([values[:1], values[:-1]])
    total[:-1] += values[1:]
    total[-1:] += values[-1:]
    total[:, 1:] += values[:, :-1]
    total[:, :1] += values[:, :1]
    total[:, :-1] += values[:, 1:]
    total[:, -1:] += values[:, -1:]
    total *= np.float32(0.25)
    return total
