"""Encoded images, each computed once."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from inpaintrt.lru import LruCache
from inpaintrt.options import VaeName
from inpaintrt.vae import LatentDistribution

__all__ = ["ImageCache", "content_key"]


def content_key(image: NDArray[np.float32], vae: VaeName) -> bytes:
    """What tells an encoded image from others: a hash of the VAE's name, and of its shape and values."""
    digest = hashlib.blake2b(repr((vae, image.shape)).encode(), digest_size=32)
    digest.update(np.ascontiguousarray(image).data)
    return digest.digest()


class ImageCache(LruCache[bytes, LatentDistribution]):
    """Keeps the distributions over latents of the images that were used last.

    A distribution does not depend on seeds: each request draws its own latents from it.

    Args:
        size: Maximum bytes that are kept; 0 keeps none.
    """

    def __init__(self, size: int) -> None:
        super().__init__(size, _nbytes)


def _nbytes(encoded: LatentDistribution) -> int:
    return sum(part.nbytes for part in (encoded.mean, encoded.deviation) if part is not None)
