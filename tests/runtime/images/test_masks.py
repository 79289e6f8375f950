"""Growing, blurring, bounding and feathering of masks, against SciPy where it has the same."""

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from inpaintrt.images import Box
from inpaintrt.images.masks import binarise, bounding_box, cover, feather_inwards, grow, invert, modify
from inpaintrt.options import make_options


def _greys(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width), dtype=np.uint8)


@pytest.mark.parametrize("pixels", [1, 2, 3, 4, 7, 16, 40])
@pytest.mark.parametrize("size", [(23, 31), (8, 8), (1, 50)])
def test_growing_is_the_maximum_of_a_square_and_shrinking_the_minimum(
    pixels: int, size: tuple[int, int]
) -> None:
    values = _greys(*size)
    grown, shrunk = grow(Image.fromarray(values), pixels), grow(Image.fromarray(values), -pixels)
    side = 2 * pixels + 1
    assert np.array_equal(np.asarray(grown), ndimage.maximum_filter(values, side, mode="nearest"))
    assert np.array_equal(np.asarray(shrunk), ndimage.minimum_filter(values, side, mode="nearest"))


def test_growing_by_nothing_changes_nothing() -> None:
    values = _greys(5, 6)
    assert np.array_equal(np.asarray(grow(Image.fromarray(values), 0)), values)


def test_a_mask_at_the_border_is_not_shrunk_there() -> None:
    values = np.zeros((10, 10), np.uint8)
    values[:, :5] = 255
    shrunk = np.asarray(grow(Image.fromarray(values), -2))
    assert (shrunk[:, :3] == 255).all()
    assert not shrunk[:, 3:].any()


def test_binarising_is_at_one_half() -> None:
    mask = Image.fromarray(np.array([[0, 127, 128, 255]], np.uint8))
    assert np.asarray(binarise(mask)).tolist() == [[0, 0, 255, 255]]
    assert np.asarray(invert(mask)).tolist() == [[255, 128, 127, 0]]


def test_the_mask_grows_before_it_is_blurred() -> None:
    values = np.zeros((41, 41), np.uint8)
    values[20, 20] = 255
    grown = grow(Image.fromarray(values), 6)
    mask = np.asarray(modify(Image.fromarray(values), make_options(mask_grow=6, mask_blur=2)))
    expected = ndimage.gaussian_filter(np.asarray(grown).astype(float), 2)
    assert np.abs(mask - expected).max() < 8
    assert mask[20, 20] > 250
    assert mask[20, 27] == pytest.approx(255 * 0.4, abs=12)
    assert not mask[:, :8].any()


def test_the_box_of_a_mask() -> None:
    values = np.zeros((9, 12), np.uint8)
    values[2:5, 3] = 128
    values[7, 10] = 20
    assert bounding_box(Image.fromarray(values), 128) == Box(3, 2, 4, 5)
    assert bounding_box(Image.fromarray(values), 20) == (3, 2, 11, 8)
    assert bounding_box(Image.fromarray(values), 129) is None
    assert Box(3, 2, 11, 8).size == (8, 6)


def test_no_stroke_is_lost_when_a_mask_shrinks() -> None:
    values = np.zeros((100, 100), np.uint8)
    values[37, :] = 255
    stretched = Image.fromarray(values).resize((16, 16), Image.Resampling.LANCZOS)
    assert not np.asarray(binarise(stretched)).any()
    covered = np.asarray(cover(Image.fromarray(values), (16, 16)))
    assert (covered[37 * 16 // 100] == 255).all()
    assert set(np.unique(covered)) == {0, 255}


def test_the_feather_stays_inside_and_reaches_the_full_value() -> None:
    values = np.zeros((20, 20), np.uint8)
    values[4:16, 4:16] = 255
    feathered = np.asarray(feather_inwards(Image.fromarray(values), 2))
    assert not feathered[values == 0].any()
    assert feathered[10, :8].tolist() == [0, 0, 0, 0, 85, 170, 255, 255]
    assert (feathered[6:14, 6:14] == 255).all()


@pytest.mark.parametrize("thickness", [1, 2])
def test_thin_strokes_survive_the_feather(thickness: int) -> None:
    values = np.zeros((20, 20), np.uint8)
    values[:, 9 : 9 + thickness] = 255
    assert np.array_equal(np.asarray(feather_inwards(Image.fromarray(values), 3)), values)
