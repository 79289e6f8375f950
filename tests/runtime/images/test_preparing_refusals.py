"""What preparing and pasting back refuse."""

import numpy as np
import pytest
from numpy.typing import NDArray

from inpaintrt.errors import EngineRunError, ImageError, MaskError, ParameterError
from inpaintrt.images import paste_back, prepare
from inpaintrt.options import Options, make_options

NATIVE = (64, 64)
COMPAT = make_options(compat="diffusers")
CROP = make_options(padding_mask_crop=4)


def _image(width: int, height: int, channels: int = 3, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def _mask(width: int, height: int, box: tuple[int, int, int, int]) -> NDArray[np.uint8]:
    values = np.zeros((height, width), np.uint8)
    values[box[1] : box[3], box[0] : box[2]] = 255
    return values


@pytest.mark.parametrize("size", [(1, 1), (7, 64), (64, 7)])
@pytest.mark.parametrize("options", [make_options(), COMPAT, make_options(width=64)])
def test_an_image_below_8_pixels_is_refused(size: tuple[int, int], options: Options) -> None:
    with pytest.raises(ImageError, match=f"(?s)too small.*{size[0]} x {size[1]}"):
        prepare(_image(*size), _mask(*size, (0, 0, 1, 1)), options, native=NATIVE, factor=8)


@pytest.mark.parametrize("options", [make_options(), CROP, make_options(width=64)])
def test_a_mask_of_another_size_is_refused(options: Options) -> None:
    with pytest.raises(MaskError, match="mask 20 x 30, image 30 x 20"):
        prepare(_image(30, 20), _mask(20, 30, (0, 0, 9, 9)), options, native=NATIVE, factor=8)


@pytest.mark.parametrize(
    "options",
    [make_options(width=60, height=64), make_options(height=12), make_options(width=12, padding_mask_crop=3)],
)
def test_a_size_off_the_latent_grid_is_refused(options: Options) -> None:
    with pytest.raises(ParameterError, match=r"(?s)multiples of 8.*for example height=\d+, width=\d+"):
        prepare(_image(30, 20), _mask(30, 20, (0, 0, 9, 9)), options, native=NATIVE, factor=8)


def test_the_pixel_limit_is_handed_on() -> None:
    with pytest.raises(ImageError, match="too many pixels"):
        prepare(
            _image(30, 20),
            _mask(30, 20, (0, 0, 9, 9)),
            make_options(),
            native=NATIVE,
            factor=8,
            max_pixels=599,
        )


@pytest.mark.parametrize("shape", [(3, 24, 40), (1, 3, 24, 32), (24, 32, 3)])
def test_a_decoded_image_of_another_size_is_refused(shape: tuple[int, ...]) -> None:
    prepared = prepare(_image(30, 20), _mask(30, 20, (0, 0, 9, 9)), make_options(), native=NATIVE, factor=8)
    with pytest.raises(ImageError, match=r"\[3, 24, 32\]"):
        paste_back(prepared, np.zeros(shape, np.float32))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_decoded_image_that_overflowed_is_refused(value: float) -> None:
    prepared = prepare(_image(30, 20), _mask(30, 20, (0, 0, 9, 9)), make_options(), native=NATIVE, factor=8)
    decoded = np.zeros((3, 24, 32), np.float32)
    decoded[1, 5, 5] = value
    with pytest.raises(EngineRunError, match="float32"):
        paste_back(prepared, decoded)
