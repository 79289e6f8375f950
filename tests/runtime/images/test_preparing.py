"""From image and mask to tensors and back, in every mode of ours."""

import io
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from scipy import ndimage

from inpaintrt.errors import ParameterError
from inpaintrt.images import Prepared, load_image, paste_back, prepare
from inpaintrt.options import Fill, Options, make_options

# Where pixels land is what these tests look at: results keep their colors.
plain_options = partial(make_options, match_colors=False)

NATIVE = (64, 64)


def _image(width: int, height: int, channels: int = 3, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def _mask(width: int, height: int, box: tuple[int, int, int, int]) -> NDArray[np.uint8]:
    values = np.zeros((height, width), np.uint8)
    values[box[1] : box[3], box[0] : box[2]] = 255
    return values


def _flat(prepared: Prepared, value: float) -> Image.Image:
    return paste_back(prepared, np.full(prepared.image.shape[1:], value, np.float32))


def _check_tensors(prepared: Prepared) -> None:
    height, width = prepared.image.shape[2:]
    assert height % 8 == width % 8 == 0
    assert prepared.image.shape == prepared.masked_image.shape == (1, 3, height, width)
    assert prepared.mask.shape == (1, 1, height, width)
    assert prepared.latent_mask.shape == (1, 1, height // 8, width // 8)
    tensors = (prepared.image, prepared.mask, prepared.masked_image, prepared.latent_mask)
    assert {tensor.dtype for tensor in tensors} == {np.dtype(np.float32)}
    assert prepared.image.min() >= -1
    assert prepared.image.max() <= 1
    assert set(np.unique(prepared.mask)) <= {0, 1}
    assert np.array_equal(prepared.masked_image, prepared.image * (1 - prepared.mask))
    assert np.array_equal(prepared.latent_mask, prepared.mask[:, :, ::8, ::8])


def test_a_small_image_runs_at_its_own_size() -> None:
    image, mask = _image(40, 56), _mask(40, 56, (8, 8, 24, 32))
    prepared = prepare(image, mask, plain_options(), native=NATIVE, factor=8)
    _check_tensors(prepared)
    expected = image.astype(np.float32).transpose(2, 0, 1)[None] / 127.5 - 1
    assert np.abs(prepared.image - expected).max() < 1e-6
    assert np.array_equal(prepared.mask[0, 0], mask / 255)
    assert (prepared.box, prepared.warnings, prepared.empty) == (None, (), False)


def test_other_sizes_are_padded_by_reflection_and_cut_back() -> None:
    image, mask = _image(37, 50), _mask(37, 50, (20, 20, 37, 40))
    prepared = prepare(image, mask, plain_options(), native=NATIVE, factor=8)
    _check_tensors(prepared)
    assert prepared.image.shape == (1, 3, 56, 40)
    assert np.array_equal(prepared.image[..., 37:], prepared.image[..., 35:32:-1])
    assert np.array_equal(prepared.image[:, :, 50:], prepared.image[:, :, 48:42:-1])
    assert np.array_equal(prepared.mask[..., 37:], prepared.mask[..., 35:32:-1])
    result = np.asarray(_flat(prepared, 1.0))
    assert np.array_equal(result, np.where(mask[..., None] > 0, 255, image))


def test_another_factor_pads_further() -> None:
    prepared = prepare(_image(9, 20), _mask(9, 20, (0, 0, 9, 9)), plain_options(), native=NATIVE, factor=64)
    assert prepared.image.shape == (1, 3, 64, 64)
    assert prepared.latent_mask.shape == (1, 1, 1, 1)
    assert _flat(prepared, 0.0).size == (9, 20)


def test_the_result_is_rounded_as_diffusers_rounds() -> None:
    prepared = prepare(_image(8, 8), _mask(8, 8, (0, 0, 8, 8)), plain_options(), native=NATIVE, factor=8)
    decoded = np.zeros((3, 8, 8), np.float32)
    decoded[0, 0, :5] = [-3.0, -1.0, 0.0, 1.0, 3.0]
    assert np.asarray(paste_back(prepared, decoded))[0, :5, 0].tolist() == [0, 0, 128, 255, 255]


def test_of_a_large_image_the_surroundings_of_the_mask_run() -> None:
    image, mask = _image(300, 200), _mask(300, 200, (150, 100, 160, 110))
    prepared = prepare(image, mask, plain_options(), native=(96, 128), factor=8)
    _check_tensors(prepared)
    assert prepared.box == (91, 57, 219, 153)
    assert prepared.image.shape == (1, 3, 96, 128)
    box = image[57:153, 91:219].astype(np.float32).transpose(2, 0, 1) / 127.5 - 1
    assert np.abs(prepared.image[0] - box).max() < 1e-6
    result = np.asarray(_flat(prepared, -1.0))
    assert np.array_equal(result, np.where(mask[..., None] > 0, 0, image))


def test_what_runs_of_a_large_image_holds_all_that_is_blended() -> None:
    image, mask = _image(600, 600), _mask(600, 600, (250, 250, 350, 350))
    assert prepare(image, mask, plain_options(), native=NATIVE, factor=8).box == (218, 218, 382, 382)
    blurred = Image.fromarray(mask).filter(ImageFilter.GaussianBlur(25))
    columns = np.flatnonzero((np.asarray(blurred) >= 16).any(axis=0))
    low, high = int(columns[0]) - 75, int(columns[-1]) + 76
    assert prepare(image, mask, plain_options(mask_blur=25), native=NATIVE, factor=8).box == (
        low,
        low,
        high,
        high,
    )
    mask[200, 200] = 20
    mask[100, 100] = 9
    assert prepare(image, mask, plain_options(), native=NATIVE, factor=8).box == (162, 162, 388, 388)


def test_a_crop_over_the_native_size_is_scaled_down_and_up_again() -> None:
    image, mask = _image(400, 300), _mask(400, 300, (50, 60, 250, 160))
    prepared = prepare(image, mask, plain_options(), native=NATIVE, factor=8)
    _check_tensors(prepared)
    assert prepared.box == (0, 28, 300, 192)
    assert prepared.image.shape == (1, 3, 48, 88)
    result = np.asarray(_flat(prepared, 1.0))
    assert result.shape == image.shape
    assert np.array_equal(result[mask == 0], image[mask == 0])
    assert (result[64:156, 54:246] == 255).all()
    edge = result[100, 50].astype(int) - image[100, 50]
    assert (np.abs(edge) < 255 - image[100, 50]).all()


@pytest.mark.parametrize("box", [(50, 60, 250, 160), (0, 0, 400, 300), (399, 0, 400, 300)])
def test_a_scaled_crop_returns_to_its_place(box: tuple[int, int, int, int]) -> None:
    columns, rows = np.meshgrid(np.linspace(0, 255, 400), np.linspace(255, 0, 300))
    image = np.stack([columns, rows, (columns + rows) / 2], axis=-1).astype(np.uint8)
    prepared = prepare(image, _mask(400, 300, box), plain_options(), native=NATIVE, factor=8)
    assert prepared.image.shape[2] < 300
    result = np.asarray(paste_back(prepared, prepared.image[0]))
    assert np.abs(result.astype(int) - image).max() <= 4


def test_a_scratch_in_a_large_image_is_run_and_replaced() -> None:
    image, mask = _image(640, 480), _mask(640, 480, (0, 240, 640, 242))
    prepared = prepare(image, mask, plain_options(), native=NATIVE, factor=8)
    assert prepared.mask[0, 0].any(axis=0).all()
    result = np.asarray(_flat(prepared, 1.0))
    assert np.array_equal(result, np.where(mask[..., None] > 0, 255, image))


def test_a_mask_too_thin_for_the_latents_is_warned_of() -> None:
    image, mask = _image(64, 64), _mask(64, 64, (0, 11, 64, 14))
    prepared = prepare(image, mask, plain_options(), native=NATIVE, factor=8)
    assert not prepared.latent_mask.any()
    (warning,) = prepared.warnings
    assert "thin" in warning
    grown = prepare(image, mask, plain_options(mask_grow=8), native=NATIVE, factor=8)
    assert grown.warnings == ()


def test_explicit_sizes_stretch_and_the_result_has_that_size() -> None:
    image, mask = _image(50, 70, 4), _mask(50, 70, (10, 10, 40, 40))
    prepared = prepare(image, mask, plain_options(height=96, width=48), native=NATIVE, factor=8)
    _check_tensors(prepared)
    assert prepared.image.shape == (1, 3, 96, 48)
    assert prepared.box is None
    result = _flat(prepared, 1.0)
    assert result.size == (48, 96)
    stretched = load_image(image).convert("RGB").resize((48, 96), Image.Resampling.LANCZOS)
    assert np.array_equal(np.asarray(result)[:13, :, :3], np.asarray(stretched)[:13])
    assert (np.asarray(result)[15:53, 11:37, :3] == 255).all()
    alpha = load_image(image).getchannel("A").resize((48, 96), Image.Resampling.LANCZOS)
    assert np.array_equal(np.asarray(result)[..., 3], np.asarray(alpha))


@pytest.mark.parametrize(
    ("options", "shape"),
    [
        (plain_options(height=32), (32, 64)),
        (plain_options(width=32), (16, 32)),
        (plain_options(width=8), (8, 8)),
        (plain_options(width=56), (32, 56)),
    ],
)
def test_one_explicit_size_keeps_the_proportions(options: Options, shape: tuple[int, int]) -> None:
    prepared = prepare(_image(100, 50), _mask(100, 50, (0, 0, 50, 50)), options, native=NATIVE, factor=8)
    assert prepared.image.shape[2:] == shape
    assert _flat(prepared, 0.0).size == (shape[1], shape[0])


def test_a_stroke_is_not_lost_in_a_stretch() -> None:
    mask = _mask(160, 160, (0, 77, 160, 78))
    prepared = prepare(_image(160, 160), mask, plain_options(height=32, width=32), native=NATIVE, factor=8)
    assert prepared.mask[0, 0, 77 // 5].all()
    assert not prepared.empty


def test_a_crop_with_padding_runs_at_the_native_size() -> None:
    image, mask = _image(90, 120), _mask(90, 120, (30, 40, 50, 60))
    mask[0, 0] = 100
    prepared = prepare(image, mask, plain_options(padding_mask_crop=6), native=(64, 96), factor=8)
    _check_tensors(prepared)
    assert prepared.box == (16, 34, 64, 66)
    assert prepared.image.shape == (1, 3, 64, 96)
    result = np.asarray(_flat(prepared, 1.0))
    changed = mask.copy()
    changed[0, 0] = 0
    assert np.array_equal(result, np.where(changed[..., None] > 0, 255, image))


def test_a_crop_at_the_border_is_fitted_and_returns_to_its_place() -> None:
    ramp = np.repeat(np.linspace(0, 255, 200).astype(np.uint8)[None, :, None], 24, axis=0)
    image = np.repeat(ramp, 3, axis=2)
    mask = _mask(200, 24, (60, 0, 140, 24))
    prepared = prepare(
        image, mask, plain_options(padding_mask_crop=0, height=64, width=64), native=NATIVE, factor=8
    )
    assert prepared.box == (60, 0, 140, 24)
    result = np.asarray(paste_back(prepared, prepared.image[0]))
    assert result.shape == image.shape
    assert np.abs(result.astype(int) - image).max() <= 3


def test_margins_grow_the_canvas_and_are_repainted() -> None:
    image = _image(40, 24, 4)
    prepared = prepare(image, None, plain_options(margins=(8, 0, 16, 4)), native=NATIVE, factor=8)
    _check_tensors(prepared)
    assert prepared.image.shape == (1, 3, 32, 64)
    assert not prepared.mask[0, 0, :24, 8:48].any()
    assert prepared.mask.sum() == 32 * 64 - 40 * 24 - 40  # The last row reflects one of the image's.
    result = np.asarray(_flat(prepared, 1.0))
    assert result.shape == (28, 64, 4)
    assert np.array_equal(result[:24, 8:48], image)
    assert (result[24:] == 255).all()
    assert (result[:, :8] == 255).all()
    assert (result[:, 48:] == 255).all()


def test_margins_repeat_the_edge_under_the_mask() -> None:
    image = _image(16, 16)
    prepared = prepare(image, None, plain_options(margins=(8, 0, 0, 0)), native=NATIVE, factor=8)
    assert np.array_equal(prepared.image[..., :8], np.repeat(prepared.image[..., 8:9], 8, axis=3))


def test_margins_and_a_mask_are_both_repainted() -> None:
    mask = _mask(16, 16, (4, 4, 8, 8))
    prepared = prepare(_image(16, 16), mask, plain_options(margins=(0, 0, 0, 8)), native=NATIVE, factor=8)
    assert prepared.mask[0, 0, 4:8, 4:8].all()
    assert prepared.mask[0, 0, 16:].all()
    assert prepared.mask.sum() == 16 + 8 * 16


def test_margins_beyond_the_pixel_limit_are_refused() -> None:
    with pytest.raises(ParameterError, match="canvas too large"):
        prepare(_image(16, 16), None, plain_options(margins=(16384, 16384, 0, 0)), native=NATIVE, factor=8)


def test_an_inverted_mask_repaints_the_black() -> None:
    mask = _mask(16, 16, (0, 0, 8, 16))
    prepared = prepare(_image(16, 16), mask, plain_options(mask_invert=True), native=NATIVE, factor=8)
    assert np.array_equal(prepared.mask[0, 0], 1 - mask / 255)


def test_a_blurred_mask_blends_and_keeps_what_it_does_not_reach() -> None:
    image, mask = np.zeros((64, 64, 3), np.uint8), _mask(64, 64, (24, 24, 40, 40))
    prepared = prepare(image, mask, plain_options(mask_blur=3), native=NATIVE, factor=8)
    row = np.asarray(_flat(prepared, 1.0))[32, :, 0].astype(int)
    assert not row[:12].any()
    assert not row[52:].any()
    assert (np.diff(row[12:32]) >= 0).all()
    assert 90 < row[23] < 128 <= row[24] < 165


@pytest.mark.parametrize("fill", ["original", "grey", "noise", "blur"])
def test_the_fill_changes_the_image_under_the_mask_alone(fill: Fill) -> None:
    image, mask = _image(32, 32), _mask(32, 32, (8, 8, 24, 24))
    plain = prepare(image, mask, plain_options(), native=NATIVE, factor=8)
    filled = prepare(image, mask, plain_options(fill=fill), native=NATIVE, factor=8)
    assert filled.fill == fill
    assert np.array_equal(filled.masked_image, plain.masked_image)
    assert np.array_equal(filled.image, plain.image) == (fill in ("original", "noise"))


def test_a_black_mask_is_empty_and_says_so() -> None:
    image = _image(300, 200, 4)
    for options in (plain_options(), plain_options(padding_mask_crop=4), plain_options(height=64, width=64)):
        prepared = prepare(image, np.full((200, 300), 1, np.uint8), options, native=NATIVE, factor=8)
        _check_tensors(prepared)
        assert prepared.empty
        assert "brightest value is 1" in prepared.warnings[0]
    prepared = prepare(image, np.zeros((200, 300), np.uint8), plain_options(), native=NATIVE, factor=8)
    assert np.array_equal(np.asarray(prepared.original), image)
    assert np.array_equal(np.asarray(_flat(prepared, 1.0)), image)


def test_a_white_mask_repaints_the_whole_image() -> None:
    mask = np.full((200, 300), 255, np.uint8)
    prepared = prepare(_image(300, 200), mask, plain_options(), native=NATIVE, factor=8)
    assert prepared.mask.all()
    assert prepared.box is None
    assert (np.asarray(_flat(prepared, 1.0)) == 255).all()


def test_a_mask_shrunk_to_nothing_is_empty() -> None:
    mask = _mask(32, 32, (8, 8, 12, 12))
    assert prepare(_image(32, 32), mask, plain_options(mask_grow=-2), native=NATIVE, factor=8).empty


def test_the_color_profile_is_handed_back() -> None:
    image = Image.fromarray(_image(20, 20, 4))
    image.info["icc_profile"] = b"a profile"
    stream = io.BytesIO()
    image.save(stream, "PNG", icc_profile=b"a profile")
    for options in (plain_options(), plain_options(margins=(4, 4, 4, 4)), plain_options(width=40)):
        prepared = prepare(stream.getvalue(), _mask(20, 20, (0, 0, 9, 9)), options, native=NATIVE, factor=8)
        assert _flat(prepared, 0.0).info["icc_profile"] == b"a profile"


def test_the_profile_of_inks_is_not_handed_back_with_rgb() -> None:
    image = Image.new("CMYK", (20, 20))
    image.info["icc_profile"] = b"inks"
    prepared = prepare(image, _mask(20, 20, (0, 0, 9, 9)), plain_options(), native=NATIVE, factor=8)
    assert "icc_profile" not in _flat(prepared, 0.0).info


def test_the_callers_image_is_left_alone() -> None:
    image, mask = Image.fromarray(_image(20, 20)), Image.fromarray(_mask(20, 20, (0, 0, 9, 9)))
    before = image.tobytes(), mask.tobytes()
    _flat(prepare(image, mask, plain_options(mask_blur=2), native=NATIVE, factor=8), 1.0)
    assert (image.tobytes(), mask.tobytes()) == before


@st.composite
def _requests(draw: st.DrawFn) -> tuple[NDArray[np.uint8], NDArray[np.uint8], Options]:
    width, height = draw(st.integers(8, 200)), draw(st.integers(8, 200))
    left, top = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
    box = left, top, draw(st.integers(left + 1, width)), draw(st.integers(top + 1, height))
    options = plain_options(
        padding_mask_crop=draw(st.none() | st.integers(0, 40)),
        mask_blur=draw(st.sampled_from([0.0, 1.5, 6.0])),
        mask_grow=draw(st.integers(-2, 9)),
        fill=draw(st.sampled_from(["original", "grey", "noise", "blur"])),
    )
    return _image(width, height, draw(st.sampled_from([3, 4]))), _mask(width, height, box), options


@given(request=_requests(), value=st.sampled_from([-1.0, 0.1, 1.0]))
@settings(max_examples=60, deadline=None)
def test_unmasked_pixels_size_and_transparency_are_the_sources(
    request: tuple[NDArray[np.uint8], NDArray[np.uint8], Options], value: float
) -> None:
    image, mask, options = request
    prepared = prepare(image, mask, options, native=NATIVE, factor=8)
    _check_tensors(prepared)
    result = np.asarray(_flat(prepared, value))
    assert result.shape == image.shape
    reach = max(options["mask_grow"], 0) + int(np.ceil(4 * options["mask_blur"]))
    outside = ndimage.maximum_filter(mask, 2 * reach + 1) == 0
    assert np.array_equal(result[outside], image[outside])
    assert np.array_equal(result[..., 3:], image[..., 3:])
    assert np.array_equal(np.asarray(prepared.original), image)


@given(request=_requests())
@settings(max_examples=30, deadline=None)
def test_a_run_that_changes_nothing_hands_the_image_back(
    request: tuple[NDArray[np.uint8], NDArray[np.uint8], Options],
) -> None:
    image, mask, options = request
    smooth = np.full_like(image, 77)
    prepared = prepare(
        smooth, mask, plain_options(padding_mask_crop=options["padding_mask_crop"]), native=NATIVE, factor=8
    )
    assert np.abs(np.asarray(paste_back(prepared, prepared.image[0])).astype(int) - smooth).max() <= 1
