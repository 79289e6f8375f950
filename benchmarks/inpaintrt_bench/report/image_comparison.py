"""How far images are from each other."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from inpaintrt_bench.report.schema import ImageComparison

__all__ = [
    "LIMITS",
    "Precision",
    "broken_limits",
    "compare_images",
    "psnr_in_mask",
    "structural_similarity",
    "why_wrong",
]

Precision = str
Pixels = NDArray[np.uint8]

LIMITS: Mapping[Precision, Mapping[str, float]] = {
    "float32": {"psnr": 40.0, "ssim": 0.99},
    "float16": {"psnr": 25.0, "ssim": 0.90},
}
"""The minimum PSNR in dB and structural similarity of an image that counts as the reference's.

In float32 libraries differ by rounding alone, which leaves differences of a few steps of 1/255 at most; in
float16 rounding is a thousand times coarser, and a sampler carries it on from step to step.
"""

_WINDOW = 7
_LARGEST = 255.0
_HALF = 128
_ROUNDING = 1 / 12  # mean squared error of rounding to whole levels
_C1 = (0.01 * _LARGEST) ** 2
_C2 = (0.03 * _LARGEST) ** 2


def compare_images(
    images: Pixels, reference: Pixels, name: str, limits: Mapping[str, float]
) -> ImageComparison:
    """Compare images with a reference's.

    Args:
        images: `[batch, height, width, 3]` uint8.
        reference: Of the same shape.
        name: The reference's.
        limits: What is to be kept, from `LIMITS`.

    Raises:
        ValueError: The shapes differ.
    """
    if images.shape != reference.shape:
        raise ValueError(f"images have the shape {images.shape}, the reference's {reference.shape}")
    difference = np.abs(images.astype(np.float64) - reference)
    squared = float((difference**2).mean())
    return ImageComparison(
        reference=name,
        max_difference=float(difference.max()),
        mean_difference=float(difference.mean()),
        psnr=None if squared == 0 else 10 * math.log10(_LARGEST**2 / squared),
        ssim=min(structural_similarity(one, two) for one, two in zip(images, reference, strict=True)),
        limits=dict(limits),
    )


def why_wrong(comparison: ImageComparison) -> str | None:
    """The limits that an image does not keep, in one line; None where it keeps all."""
    broken = broken_limits(comparison)
    return f"the image is not {comparison.reference}'s: {broken}" if broken else None


def broken_limits(comparison: ImageComparison) -> str:
    """The limits that an image does not keep, with what was found; empty where it keeps all."""
    found = {"psnr": math.inf if comparison.psnr is None else comparison.psnr, "ssim": comparison.ssim}
    return "; ".join(
        f"{name} {found[name]:.3g}, at least {minimum:g} expected"
        for name, minimum in comparison.limits.items()
        if not found[name] >= minimum
    )


def psnr_in_mask(image: Pixels, reference: Pixels, mask: Pixels) -> float:
    """Peak signal-to-noise ratio of the masked pixels in dB; 58.9, as of rounding alone, for equal ones.

    Args:
        image: `[height, width, channels]` uint8.
        reference: Of the same shape.
        mask: `[height, width]` uint8, at least 128 in the mask.

    Raises:
        ValueError: The shapes differ, or the mask is empty.
    """
    inside = mask >= _HALF
    if image.shape != reference.shape or image.shape[:2] != mask.shape or not inside.any():
        raise ValueError(
            f"an image {image.shape}, a reference {reference.shape} and a mask {mask.shape} with "
            f"{np.count_nonzero(inside)} pixels cannot be compared"
        )
    difference = image[inside].astype(np.float64) - reference[inside]
    return 10 * math.log10(_LARGEST**2 / max(float((difference**2).mean()), _ROUNDING))


def structural_similarity(image: Pixels, reference: Pixels) -> float:
    """Mean structural similarity of two images `[height, width, channels]`, over all channels.

    Wang et al. 2004, equation 13, with uniform windows of 7 x 7 pixels and unbiased covariances: what
    scikit-image's `structural_similarity` computes by default.
    """
    one, two = image.astype(np.float64), reference.astype(np.float64)
    samples = _WINDOW**2
    unbiased = samples / (samples - 1)
    mean_one, mean_two = _window_means(one), _window_means(two)
    variance_one = unbiased * (_window_means(one * one) - mean_one**2)
    variance_two = unbiased * (_window_means(two * two) - mean_two**2)
    covariance = unbiased * (_window_means(one * two) - mean_one * mean_two)
    similarity = (2 * mean_one * mean_two + _C1) * (2 * covariance + _C2)
    similarity /= (mean_one**2 + mean_two**2 + _C1) * (variance_one + variance_two + _C2)
    return float(similarity.mean())


def _window_means(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean of every window that lies in the image."""
    for axis in (0, 1):
        values = np.lib.stride_tricks.sliding_window_view(values, _WINDOW, axis=axis).mean(axis=-1)
    return values
