"""Measures of difference on images whose difference is known."""

import numpy as np
import pytest

from inpaintrt_bench.report.image_comparison import (
    LIMITS,
    compare_images,
    structural_similarity,
    why_wrong,
)

NOISE = np.random.default_rng(0).integers(0, 246, (1, 32, 40, 3)).astype(np.uint8)


def test_equal_images() -> None:
    found = compare_images(NOISE, NOISE, "same", LIMITS["float32"])
    assert (found.max_difference, found.mean_difference, found.psnr) == (0, 0, None)
    assert found.ssim == pytest.approx(1)
    assert why_wrong(found) is None


def test_a_shift_of_all_values() -> None:
    found = compare_images(NOISE + np.uint8(10), NOISE, "shifted", LIMITS["float32"])
    assert (found.max_difference, found.mean_difference) == (10, 10)
    assert found.psnr == pytest.approx(20 * np.log10(25.5))
    assert why_wrong(found) == "the image is not shifted's: psnr 28.1, at least 40 expected"


def test_one_pixel() -> None:
    other = NOISE.copy()
    other[0, 3, 4] += 5
    found = compare_images(other, NOISE, "one", LIMITS["float32"])
    assert found.max_difference == 5
    assert found.mean_difference == pytest.approx(5 / (32 * 40))
    assert why_wrong(found) is None


def test_the_worst_image_of_a_batch_decides() -> None:
    other = np.concatenate([NOISE, 255 - NOISE])
    found = compare_images(other, np.concatenate([NOISE, NOISE]), "half", LIMITS["float16"])
    assert found.ssim < 0
    assert "ssim" in (why_wrong(found) or "")


def test_structural_similarity_by_its_definition() -> None:
    one = NOISE[0].astype(np.float64)
    two = np.clip(one + np.random.default_rng(1).normal(0, 20, one.shape), 0, 255).astype(np.uint8)
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    found = []
    for top in range(32 - 6):
        for left in range(40 - 6):
            for channel in range(3):
                window = (slice(top, top + 7), slice(left, left + 7), channel)
                x, y = one[window].ravel(), two[window].astype(np.float64).ravel()
                covariance = np.cov(x, y)
                means = 2 * x.mean() * y.mean() + c1, x.mean() ** 2 + y.mean() ** 2 + c1
                spreads = 2 * covariance[0, 1] + c2, covariance[0, 0] + covariance[1, 1] + c2
                found.append(means[0] * spreads[0] / (means[1] * spreads[1]))
    assert structural_similarity(NOISE[0], two) == pytest.approx(np.mean(found))


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="shape"):
        compare_images(NOISE, NOISE[:, :16], "small", LIMITS["float32"])
