"""Step caching: which evaluations are shallow, and the features that they take from earlier ones.

DeepCache (Ma et al., arXiv:2312.00858): what a UNet's deep layers make of a sample changes slowly from step
to step. A full evaluation of a row keeps it; the shallow ones that follow take it, and compute the first and
last layers alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from inpaintrt.backends import Array, RowKey

__all__ = ["FeatureCache", "shallow_rows"]


def shallow_rows(weights: NDArray[np.float32], interval: int) -> NDArray[np.bool_]:
    """Which evaluations of a run take the cached features of an earlier one.

    Counted from 0, evaluation i is full where i is a multiple of the interval, where it is the last one, and
    where other contexts are evaluated than before: guidance starts or ends. The others are shallow. Samplers
    of second order evaluate twice in most steps, and both evaluations count.

    Args:
        weights: `[rows, contexts]`, guidance; a context of weight 0 is not evaluated in that row.
        interval: DeepCache's `cache_interval`; 1 makes every evaluation full.

    Returns:
        `[rows]`.
    """
    index = np.arange(len(weights))
    evaluated = weights != 0
    changed = np.ones(len(weights), bool)
    changed[1:] = (evaluated[1:] != evaluated[:-1]).any(axis=1)
    shallow: NDArray[np.bool_] = (index % interval != 0) & (index != len(weights) - 1) & ~changed
    return shallow


class FeatureCache:
    """Cached features of rows, in NumPy."""

    def __init__(self) -> None:
        self._kept: dict[RowKey, tuple[Array, int]] = {}

    def keep(self, features: Array, rows: Mapping[RowKey, int]) -> None:
        """Keep features in the place of those before.

        Args:
            features: `[rows, channels, h, w]`, of one evaluation; they are not copied.
            rows: Which of them to keep.
        """
        self._kept |= {key: (features, row) for key, row in rows.items()}

    def take(self, keys: Sequence[RowKey]) -> Array:
        """The features `[rows, channels, h, w]` of some rows, in their order."""
        kept = [self._kept[key] for key in keys]
        features = kept[0][0]
        if len(features) == len(kept) and all(
            each is features and row in (index, 0) for index, (each, row) in enumerate(kept)
        ):
            return features  # what rows of padding take counts for nothing
        return np.stack([each[row] for each, row in kept])

    def free(self, slot: int) -> None:
        """Forget the features of a slot."""
        self._kept = {key: kept for key, kept in self._kept.items() if key.slot != slot}
