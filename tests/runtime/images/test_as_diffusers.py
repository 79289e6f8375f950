"""compat="diffusers" against diffusers' own image processors, bit by bit."""

import numpy as np
import pytest
import torch
from diffusers.image_processor import VaeImageProcessor
from numpy.typing import NDArray
from PIL import Image

from inpaintrt.errors import MaskError, ParameterError
from inpaintrt.images import paste_back, prepare
from inpaintrt.options import make_options

IMAGES = VaeImageProcessor(vae_scale_factor=8)
MASKS = VaeImageProcessor(vae_scale_factor=8, do_normalize=False, do_binarize=True, do_convert_grayscale=True)
SIZES = [(64, 64), (40, 72), (129, 67), (70, 200), (33, 500)]
RUNS = [(64, 64), (48, 96), (104, 56)]


def _image(size: tuple[int, int], seed: int) -> Image.Image:
    values = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(values)


def _mask(size: tuple[int, int], seed: int) -> Image.Image:
    """A soft mask: a rectangle of greys somewhere in the dark."""
    generator = np.random.default_rng(seed)
    values = np.zeros((size[1], size[0]), dtype=np.uint8)
    left, top = generator.integers(0, size[0] - 6), generator.integers(0, size[1] - 6)
    right, bottom = generator.integers(left + 2, size[0] + 1), generator.integers(top + 2, size[1] + 1)
    values[top:bottom, left:right] = generator.integers(1, 256, (bottom - top, right - left))
    return Image.fromarray(values)


def _decoded(shape: tuple[int, ...], seed: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(0, 0.7, shape).astype(np.float32)


def _same(ours: NDArray[np.float32], theirs: torch.Tensor) -> bool:
    return np.array_equal(ours, theirs.numpy())


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("size", SIZES)
def test_whole_images_are_stretched(size: tuple[int, int], run: tuple[int, int], seed: int) -> None:
    image, mask = _image(size, seed), _mask(size, seed)
    options = make_options(compat="diffusers", width=run[0], height=run[1])
    ours = prepare(image, mask, options, native=(512, 512), factor=8)
    theirs = IMAGES.preprocess(image, height=run[1], width=run[0])
    condition = MASKS.preprocess(mask, height=run[1], width=run[0])
    assert _same(ours.image, theirs)
    assert _same(ours.mask, condition)
    assert _same(ours.masked_image, theirs * (condition < 0.5))
    small = torch.nn.functional.interpolate(condition, size=(run[1] // 8, run[0] // 8))
    assert _same(ours.latent_mask, small)
    decoded = _decoded(ours.image.shape[1:], seed)
    (expected,) = IMAGES.postprocess(torch.from_numpy(decoded)[None], output_type="pil")
    assert np.array_equal(np.asarray(paste_back(ours, decoded)), np.asarray(expected))
    assert (ours.box, ours.empty, ours.warnings) == (None, False, ())


@pytest.mark.parametrize("padding", [0, 5, 32])
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("size", SIZES)
def test_crops_are_fitted_and_laid_over(
    size: tuple[int, int], run: tuple[int, int], seed: int, padding: int
) -> None:
    image, mask = _image(size, seed), _mask(size, seed + 10)
    options = make_options(compat="diffusers", width=run[0], height=run[1], padding_mask_crop=padding)
    ours = prepare(image, mask, options, native=(512, 512), factor=8)
    box = MASKS.get_crop_region(mask, run[0], run[1], pad=padding)
    fitted = {"height": run[1], "width": run[0], "crops_coords": box, "resize_mode": "fill"}
    theirs, condition = IMAGES.preprocess(image, **fitted), MASKS.preprocess(mask, **fitted)
    assert ours.box == box
    assert _same(ours.image, theirs)
    assert _same(ours.mask, condition)
    assert _same(ours.masked_image, theirs * (condition < 0.5))
    decoded = _decoded(ours.image.shape[1:], seed)
    (result,) = IMAGES.postprocess(torch.from_numpy(decoded)[None], output_type="pil")
    expected = IMAGES.apply_overlay(mask, image, result, box)
    assert np.array_equal(np.asarray(paste_back(ours, decoded)), np.asarray(expected))


def test_one_stray_pixel_stretches_the_crop_as_it_does_in_diffusers() -> None:
    image, values = _image((96, 96), 0), np.zeros((96, 96), np.uint8)
    values[60:80, 60:80] = 255
    values[3, 5] = 1
    mask = Image.fromarray(values)
    options = make_options(compat="diffusers", padding_mask_crop=0)
    ours = prepare(image, mask, options, native=(64, 64), factor=8)
    assert ours.box == MASKS.get_crop_region(mask, 64, 64, pad=0) == (4, 3, 81, 80)


@pytest.mark.parametrize("native", [(64, 96), (96, 64)])
def test_the_native_size_is_the_default(native: tuple[int, int]) -> None:
    image, mask = _image((50, 30), 0), _mask((50, 30), 0)
    both = prepare(image, mask, make_options(compat="diffusers"), native=native, factor=8)
    assert both.image.shape == (1, 3, *native)
    one = prepare(image, mask, make_options(compat="diffusers", width=40), native=native, factor=8)
    assert one.image.shape == (1, 3, native[0], 40)


def test_mask_blur_is_that_of_the_mask_processor() -> None:
    image, mask = _image((64, 64), 0), _mask((64, 64), 3)
    ours = prepare(image, mask, make_options(compat="diffusers", mask_blur=3), native=(64, 64), factor=8)
    assert _same(ours.mask, MASKS.preprocess(MASKS.blur(mask, blur_factor=3), height=64, width=64))


def test_an_inverted_mask_is_black_where_it_was_white() -> None:
    image, mask = _image((64, 64), 0), _mask((64, 64), 3)
    hard = Image.fromarray((np.asarray(mask) >= 128).astype(np.uint8) * np.uint8(255))
    given = prepare(image, hard, make_options(compat="diffusers"), native=(64, 64), factor=8)
    swapped = prepare(
        image, hard, make_options(compat="diffusers", mask_invert=True), native=(64, 64), factor=8
    )
    assert np.array_equal(swapped.mask, 1 - given.mask)


def test_a_black_mask_runs_without_a_crop() -> None:
    black = Image.new("L", (64, 64))
    ours = prepare(_image((64, 64), 0), black, make_options(compat="diffusers"), native=(64, 64), factor=8)
    assert not ours.empty
    assert not ours.mask.any()


@pytest.mark.parametrize("padding", [None, 4])
def test_the_original_is_the_source_as_the_run_sees_it(padding: int | None) -> None:
    image, mask = _image((40, 72), 0), _mask((40, 72), 0)
    options = make_options(compat="diffusers", padding_mask_crop=padding)
    ours = prepare(image, mask, options, native=(64, 64), factor=8)
    expected = image if padding is not None else image.resize((64, 64), Image.Resampling.LANCZOS)
    assert np.array_equal(np.asarray(ours.original), np.asarray(expected))


def test_a_black_mask_cannot_be_cropped() -> None:
    options = make_options(compat="diffusers", padding_mask_crop=4)
    with pytest.raises(MaskError, match="black"):
        prepare(_image((64, 64), 0), Image.new("L", (64, 64)), options, native=(64, 64), factor=8)


def test_a_mask_of_another_size_is_stretched_but_not_cropped() -> None:
    image, mask = _image((64, 64), 0), _mask((32, 48), 0)
    ours = prepare(image, mask, make_options(compat="diffusers"), native=(64, 64), factor=8)
    assert _same(ours.mask, MASKS.preprocess(mask, height=64, width=64))
    with pytest.raises(MaskError, match="mask 32 x 48, image 64 x 64"):
        prepare(image, mask, make_options(compat="diffusers", padding_mask_crop=4), native=(64, 64), factor=8)


def test_an_image_without_a_mask_is_rounded_down_and_all_of_it_is_painted() -> None:
    image = _image((75, 66), 0)
    ours = prepare(image, None, make_options(compat="diffusers"), native=(64, 64), factor=8)
    assert _same(ours.image, IMAGES.preprocess(image))
    assert ours.mask.all()
    assert ours.image.shape == (1, 3, 64, 72)


@pytest.mark.parametrize("padding", [None, 4])
def test_a_size_off_the_latent_grid_is_refused(padding: int | None) -> None:
    options = make_options(compat="diffusers", width=60, height=64, padding_mask_crop=padding)
    with pytest.raises(ParameterError, match="multiples of 8"):
        prepare(_image((64, 64), 0), _mask((64, 64), 0), options, native=(64, 64), factor=8)
