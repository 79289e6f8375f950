"""Images of any size on engines that were built for a few."""

from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from inpaintrt.errors import ParameterError
from inpaintrt.images import Prepared, paste_back, prepare
from inpaintrt.options import Options, make_options
from runtime.image_tools import disc_mask, gradient

NATIVE = (64, 64)
BUILT = ((64, 64), (64, 96))  # height, width


def _prepare(image: Image.Image, mask: Image.Image, options: Options, **sizes: object) -> Prepared:
    call = partial(prepare, image, mask, options, native=NATIVE, factor=8)
    return call(**{"built": BUILT, **sizes})  # type: ignore[arg-type]


def _run(prepared: Prepared) -> tuple[int, ...]:
    return prepared.image.shape[2:]


def _corner(width: int, height: int) -> Image.Image:
    mask = Image.new("L", (width, height), 0)
    mask.paste(255, (0, 0, max(width // 5, 1), max(height // 5, 1)))
    return mask


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((64, 64), (64, 64)),
        ((61, 60), (64, 64)),
        ((40, 40), (64, 64)),
        ((96, 64), (64, 96)),
        ((700, 480), (64, 96)),
        ((90, 60), (64, 96)),
        ((30, 800), (64, 64)),
    ],
)
def test_the_built_size_that_fits_best_runs(size: tuple[int, int], expected: tuple[int, int]) -> None:
    prepared = _prepare(gradient(*size), Image.new("L", size, 255), make_options())
    assert _run(prepared) == expected


def test_what_would_run_at_a_built_size_anyway_runs_as_it_would() -> None:
    image, mask = gradient(61, 60), disc_mask(61, 60)
    with_plans, without = (_prepare(image, mask, make_options(), built=built) for built in (BUILT, ()))
    np.testing.assert_array_equal(with_plans.image, without.image)
    np.testing.assert_array_equal(with_plans.mask, without.mask)


def test_a_smaller_image_is_enlarged_and_a_larger_one_shrunk() -> None:
    options = make_options(match_colors=False)
    for side in (32, 256):
        prepared = _prepare(gradient(side, side), Image.new("L", (side, side), 255), options)
        assert _run(prepared) == (64, 64)
        seen = prepared.image[0].transpose(1, 2, 0) * 127.5 + 127.5
        expected = gradient(side, side).resize((64, 64), Image.Resampling.LANCZOS)
        assert np.abs(seen - np.asarray(expected)).max() < 1


def test_the_box_takes_more_of_the_image_before_anything_is_filled_up() -> None:
    image, mask = gradient(400, 600), Image.new("L", (400, 600), 0)
    mask.paste(255, (50, 390, 350, 410))
    prepared = _prepare(image, mask, make_options(), built=((64, 64),))
    assert prepared.box == (0, 200, 400, 600)  # a quarter of the mask at its sides, then a square


def test_a_crop_runs_at_the_native_size_or_at_the_nearest() -> None:
    image, mask = gradient(200, 200), disc_mask(200, 200)
    crop = make_options(padding_mask_crop=4)
    assert _run(_prepare(image, mask, crop)) == (64, 64)
    assert _run(_prepare(image, mask, crop, built=((256, 256), (64, 72)))) == (64, 72)


@pytest.mark.parametrize(
    "options",
    [
        make_options(height=128, width=128),
        make_options(height=96),
        make_options(height=96, width=64, padding_mask_crop=4),
        make_options(height=72, compat="diffusers"),
    ],
)
def test_a_size_that_was_not_built_is_refused_where_it_is_asked_for(options: Options) -> None:
    with pytest.raises(ParameterError, match=r"(?s)no plan.*height=64, width=64 or height=64, width=96"):
        _prepare(gradient(80, 80), disc_mask(80, 80), options)


def test_the_way_of_diffusers_needs_the_native_size() -> None:
    options = make_options(compat="diffusers")
    assert _run(_prepare(gradient(80, 80), disc_mask(80, 80), options)) == (64, 64)
    with pytest.raises(ParameterError, match=r"(?s)height=64, width=64.*height=96, width=96"):
        _prepare(gradient(80, 80), disc_mask(80, 80), options, built=((96, 96),))


@settings(max_examples=60)
@given(
    width=st.integers(8, 300),
    height=st.integers(8, 300),
    make_mask=st.sampled_from([disc_mask, _corner, partial(disc_mask, blur=3.0)]),
    options=st.sampled_from(
        [
            make_options(),
            make_options(match_colors=False, mask_grow=3, mask_blur=2.0),
            make_options(margins=(5, 0, 12, 3)),
            make_options(padding_mask_crop=7),
            make_options(fill="blur", mask_invert=True),
        ]
    ),
)
def test_every_image_runs_at_a_built_size_and_keeps_what_is_not_masked(
    width: int, height: int, make_mask: partial[Image.Image], options: Options
) -> None:
    prepared = _prepare(gradient(width, height), make_mask(width, height), options)
    assert _run(prepared) in BUILT
    assert prepared.mask.shape[2:] == _run(prepared)
    original = np.asarray(prepared.original)
    painted = np.asarray(paste_back(prepared, -prepared.image[0]))
    assert painted.shape == original.shape
    blend = prepared.paste.mask  # type: ignore[attr-defined]
    weight = Image.new("L", original.shape[1::-1], 0)
    weight.paste(blend, prepared.box[:2] if prepared.box else (0, 0))
    kept = np.asarray(weight) == 0
    np.testing.assert_array_equal(painted[kept], original[kept])
