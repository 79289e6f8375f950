"""Mask arithmetic: invert, grow, shrink, blur, bound."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image, ImageFilter, ImageOps

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from inpaintrt.options import Options

__all__ = ["Box", "binarise", "bounding_box", "cover", "feather_inwards", "grow", "invert", "modify"]

_HALF = 128


class Box(NamedTuple):
    """A rectangle in pixels; right and bottom lie outside it."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.right - self.left, self.bottom - self.top


def modify(mask: Image.Image, options: Options) -> Image.Image:
    """Grow or shrink a mask of mode "L", then blur it, as the options say."""
    if options["mask_grow"] != 0:
        mask = grow(mask, options["mask_grow"])
    if options["mask_blur"] > 0:
        mask = mask.filter(ImageFilter.GaussianBlur(options["mask_blur"]))
    return mask


def invert(mask: Image.Image) -> Image.Image:
    """Swap black and white."""
    return ImageOps.invert(mask)


def binarise(mask: Image.Image) -> Image.Image:
    """Set pixels to 255 from one half of white on, and to 0 below."""
    return Image.fromarray((np.asarray(mask) >= _HALF).astype(np.uint8) * np.uint8(255))


def grow(mask: Image.Image, pixels: int) -> Image.Image:
    """Grow the white area by a square neighbourhood of so many pixels; a negative number shrinks it.

    The image's border does not count as black: a mask that touches it keeps touching it.
    """
    return Image.fromarray(np.ascontiguousarray(_grow(np.asarray(mask), pixels)))


def _grow(values: NDArray[np.uint8], pixels: int) -> NDArray[np.uint8]:
    combine = np.maximum if pixels > 0 else np.minimum
    for axis in (0, 1):
        values = _slide(values, abs(pixels), axis, combine)
    return values


def _slide(values: NDArray[np.uint8], radius: int, axis: int, combine: np.ufunc) -> NDArray[np.uint8]:
    """Combine every pixel with its neighbours up to `radius` away along an axis, by windows that double."""
    length = values.shape[axis]
    padding = [(radius, radius) if index == axis else (0, 0) for index in range(2)]
    windows = np.pad(values, padding, mode="edge")
    reach, span = 1, 2 * radius + 1
    while reach < span:
        shift = min(reach, span - reach)
        count = windows.shape[axis] - shift
        windows = combine(_cut(windows, axis, 0, count), _cut(windows, axis, shift, count))
        reach += shift
    return _cut(windows, axis, 0, length)


def _cut(values: NDArray[np.uint8], axis: int, start: int, count: int) -> NDArray[np.uint8]:
    return values[start : start + count] if axis == 0 else values[:, start : start + count]


def bounding_box(mask: Image.Image, threshold: int) -> Box | None:
    """Bound the pixels that are at least `threshold`; None if there are none."""
    marked = np.asarray(mask) >= threshold
    rows, columns = np.flatnonzero(marked.any(axis=1)), np.flatnonzero(marked.any(axis=0))
    if rows.size == 0:
        return None
    return Box(int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)


def cover(mask: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Shrink a mask so that no stroke is lost: a pixel is white if any of the pixels under it is.

    Strokes that are thinner than a pixel of the smaller mask vanish in a resize with a threshold of one half.
    """
    shrunk = np.asarray(binarise(mask).resize(size, Image.Resampling.BOX))
    return Image.fromarray((shrunk > 0).astype(np.uint8) * np.uint8(255))


def feather_inwards(mask: Image.Image, pixels: int) -> Image.Image:
    """Soften the mask's edge on its inner side alone: black stays black.

    Strokes that are too thin for the whole ramp still reach their full value in the middle.
    """
    values = np.asarray(mask)
    depth = (values > 0).astype(np.uint8)
    eroded = (values >= _HALF).astype(np.uint8)
    for _ in range(pixels):
        eroded = _grow(eroded, -1)
        depth += eroded
    peak = _grow(depth, pixels)
    feathered = values.astype(np.uint16) * depth // np.maximum(peak, 1)
    return Image.fromarray(feathered.astype(np.uint8))
