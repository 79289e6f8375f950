"""Colors that continue over the mask's edge: what the VAE got wrong outside is taken back inside, too.

The VAE shifts colors a little everywhere. Pasted back, that shift would show as a seam. Outside the mask it
is known, and inside it is continued as smoothly as possible: the seamless cloning of Pérez, Gangnet and
Blake, "Poisson image editing" (2003), equation 7.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = ["harmonic_fill", "match_colors"]

Floats = NDArray[np.float32]

_SWEEPS = 4


def match_colors(result: Image.Image, original: Image.Image, mask: Image.Image) -> Image.Image:
    """Shift the result's colors under the mask so that they meet the original's at the mask's edge.

    Args:
        result: What the VAE decoded, mode "RGB".
        original: What it should equal where the mask is 0, mode "RGB", of the same size.
        mask: Mode "L", of the same size.

    Returns:
        The result with its colors shifted; where nothing of the original is kept, the result itself.
    """
    kept = np.asarray(mask) == 0
    if not kept.any() or kept.all():
        return result
    decoded = np.asarray(result, np.float32)
    difference = np.asarray(original, np.float32) - decoded
    shifted = decoded + harmonic_fill(difference, kept)
    return Image.fromarray(np.clip(np.rint(shifted), 0, 255).astype(np.uint8))


def harmonic_fill(values: Floats, known: NDArray[np.bool_]) -> Floats:
    """Continue values smoothly to where they are not known: an approximation of Laplace's equation.

    Coarse levels are solved first, each gives the next finer one its start (push-pull, Gortler et al., "The
    lumigraph", 1996), and a few sweeps of Jacobi's method smooth it.

    Args:
        values: `[height, width, channels]`; what stands at unknown places does not matter.
        known: `[height, width]`.

    Returns:
        `[height, width, channels]`, equal to `values` where they are known; zero if they are nowhere.
    """
    held = known[:, :, None]
    if known.all() or not known.any():
        return np.where(held, values, np.float32(0))
    filled = np.where(held, values, _enlarge(harmonic_fill(*_halve(values, known)), known.shape))
    for _ in range(_SWEEPS):
        filled = np.where(held, values, _average_of_neighbours(filled))
    return filled


def _halve(values: Floats, known: NDArray[np.bool_]) -> tuple[Floats, NDArray[np.bool_]]:
    """Blocks of 2 x 2, each the mean of what is known in it."""
    height, width = known.shape
    padding = ((0, height % 2), (0, width % 2))
    weights = np.pad(known, padding).astype(np.float32)[:, :, None]
    sums = _sum_blocks(np.pad(values, (*padding, (0, 0))) * weights)
    counts = _sum_blocks(weights)
    means = (sums / np.maximum(counts, 1)).astype(np.float32, copy=False)
    return means, counts[:, :, 0] > 0


def _sum_blocks(values: Floats) -> Floats:
    rows = values[0::2] + values[1::2]
    summed: Floats = rows[:, 0::2] + rows[:, 1::2]
    return summed


def _enlarge(values: Floats, shape: tuple[int, ...]) -> Floats:
    return values.repeat(2, axis=0).repeat(2, axis=1)[: shape[0], : shape[1]]


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
