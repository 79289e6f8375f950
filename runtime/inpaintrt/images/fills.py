"""What the first image holds under the mask."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from inpaintrt.options import Fill

__all__ = ["fill_masked"]


def fill_masked(image: NDArray[np.float32], mask: NDArray[np.float32], fill: Fill) -> NDArray[np.float32]:
    """Replace what lies under the mask.

    Args:
        image: `[1, 3, height, width]` in [-1, 1].
        mask: `[1, 1, height, width]` in {0, 1}; 1 is replaced.
        fill: "grey" is 0, "blur" continues the surroundings; "original" and "noise" leave the image as it is.
    """
    if fill in ("grey", "gray"):
        return image * (1 - mask)
    if fill == "blur":
        known = (mask[0, 0] < 0.5).astype(np.float32)
        return np.where(mask < 0.5, image, _pull_push(np.where(known > 0, image[0], np.float32(0)), known))
    return image


def _pull_push(colors: NDArray[np.float32], known: NDArray[np.float32]) -> NDArray[np.float32]:
    """Fill unknown pixels from ever coarser averages of the known ones (pull-push, Gortler et al. 1996).

    Args:
        colors: `[3, height, width]`, 0 where unknown.
        known: `[height, width]` in {0, 1}.
    """
    if known.all() or not known.any():
        return colors
    weight = _halve(known)
    coarse_known = (weight > 0).astype(np.float32)
    averages = (_halve(colors) / np.where(weight > 0, weight, 1)).astype(np.float32)
    coarse = _pull_push(averages, coarse_known)
    height, width = known.shape
    smooth = np.stack([_enlarge(channel, (width, height)) for channel in coarse])
    return np.where(known > 0, colors, smooth)


def _halve(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Average blocks of 2 x 2 over the last two axes; an odd side gains a block of zeros."""
    height, width = values.shape[-2:]
    padding = [(0, 0)] * (values.ndim - 2) + [(0, height % 2), (0, width % 2)]
    even = np.pad(values, padding)
    blocks = even.reshape(*values.shape[:-2], (height + 1) // 2, 2, (width + 1) // 2, 2)
    return np.asarray(blocks.mean(axis=(-3, -1)), dtype=np.float32)


def _enlarge(channel: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """Double a channel bilinearly and cut it to a size (width, height)."""
    doubled = Image.fromarray(channel).resize(
        (channel.shape[1] * 2, channel.shape[0] * 2), Image.Resampling.BILINEAR
    )
    return np.asarray(doubled)[: size[1], : size[0]]
