"""What the first image holds under the mask."""

from typing import get_args

import numpy as np
import pytest
from numpy.typing import NDArray

from inpaintrt.images.fills import fill_masked
from inpaintrt.options import Fill


def _image(height: int, width: int) -> NDArray[np.float32]:
    return np.random.default_rng(0).uniform(-1, 1, (1, 3, height, width)).astype(np.float32)


def _mask(height: int, width: int) -> NDArray[np.float32]:
    mask = np.zeros((1, 1, height, width), np.float32)
    mask[..., height // 4 : 3 * height // 4, width // 4 : 3 * width // 4] = 1
    return mask


@pytest.mark.parametrize("fill", get_args(Fill))
@pytest.mark.parametrize("size", [(8, 8), (24, 40), (17, 9)])
def test_known_pixels_stay_and_the_type_is_kept(fill: Fill, size: tuple[int, int]) -> None:
    image, mask = _image(*size), _mask(*size)
    filled = fill_masked(image, mask, fill)
    assert filled.dtype == np.float32
    assert filled.shape == image.shape
    assert np.array_equal(filled * (1 - mask), image * (1 - mask))


@pytest.mark.parametrize("fill", ["original", "noise"])
def test_original_and_noise_leave_the_image(fill: Fill) -> None:
    image = _image(16, 16)
    assert np.array_equal(fill_masked(image, _mask(16, 16), fill), image)


def test_grey_is_0() -> None:
    mask = _mask(16, 16)
    assert not (fill_masked(_image(16, 16), mask, "grey") * mask).any()


def test_blur_continues_an_even_color() -> None:
    image = np.full((1, 3, 40, 24), 0.25, np.float32)
    mask = _mask(40, 24)
    image[np.broadcast_to(mask, image.shape) > 0] = -1
    assert np.abs(fill_masked(image, mask, "blur") - 0.25).max() < 1e-5


def test_blur_leads_from_one_side_to_the_other() -> None:
    image = np.empty((1, 3, 64, 64), np.float32)
    image[..., :32], image[..., 32:] = -1, 1
    mask = np.zeros((1, 1, 64, 64), np.float32)
    mask[..., 16:48] = 1
    row = fill_masked(image, mask, "blur")[0, 0, 32]
    assert (np.diff(row) >= -1e-5).all()
    assert row[18] < -0.6
    assert row[45] > 0.6
    assert np.abs(np.diff(row)).max() < 0.5


def test_blur_with_nothing_known_is_grey() -> None:
    filled = fill_masked(_image(16, 16), np.ones((1, 1, 16, 16), np.float32), "blur")
    assert not filled.any()
