"""Encoded pictures, each computed once."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from inpaintrt.vae import LatentDistribution

__all__ = ["PictureCache", "content_key"]


def content_key(picture: NDArray[np.float32]) -> bytes:
    """What tells a picture from others: a hash of its shape and values."""
    digest = hashlib.blake2b(repr(picture.shape).encode(), digest_size=32)
    digest.update(np.ascontiguousarray(picture).data)
    return digest.digest()


class PictureCache:
    """Keeps the distributions over latents of pictures that were used last. For one thread.

    A distribution does not depend on seeds: what a request draws from it is drawn anew.

    Args:
        size: The most bytes that are kept; 0 keeps none.

    Attributes:
        hits: Lookups that found something.
        misses: Lookups that did not.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._held = 0
        self._kept: OrderedDict[bytes, LatentDistribution] = OrderedDict()
        self.hits = self.misses = 0

    @property
    def held(self) -> int:
        """Bytes that are kept."""
        return self._held

    def __contains__(self, key: bytes) -> bool:
        return key in self._kept

    def get(self, key: bytes, encode: Callable[[], LatentDistribution]) -> tuple[LatentDistribution, bool]:
        """The distribution of a picture, encoded if it is not kept; and whether it was kept."""
        if (known := self._kept.get(key)) is not None:
            self._kept.move_to_end(key)
            self.hits += 1
            return known, True
        self.misses += 1
        encoded = encode()
        self._kept[key] = encoded
        self._held += _nbytes(encoded)
        while self._held > self._size:
            _, oldest = self._kept.popitem(last=False)
            self._held -= _nbytes(oldest)
        return encoded, False


def _nbytes(encoded: LatentDistribution) -> int:
    return encoded.mean.nbytes + encoded.deviation.nbytes
