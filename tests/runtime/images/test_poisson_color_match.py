"""Colors are matched at the mask's edge, and nowhere do they jump."""

import numpy as np
from PIL import Image

from inpaintrt.images import paste_back, prepare
from inpaintrt.images.poisson_color_match import harmonic_fill, match_colors
from inpaintrt.options import make_options


def _hole(height: int, width: int) -> np.ndarray:
    known = np.ones((height, width), bool)
    known[height // 4 : height // 2, width // 3 : width - 3] = False
    return known


def test_known_values_stay_and_a_constant_fills_the_hole() -> None:
    known = _hole(37, 53)
    values = np.where(known[:, :, None], np.float32(5), np.float32(1e6))
    filled = harmonic_fill(values, known)
    np.testing.assert_allclose(filled, 5, rtol=1e-6)
    assert filled.dtype == np.float32


def test_a_linear_ramp_is_continued() -> None:
    known = _hole(64, 64)
    ramp = np.tile(np.arange(64, dtype=np.float32)[:, None, None], (1, 64, 3))
    filled = harmonic_fill(np.where(known[:, :, None], ramp, np.float32(0)), known)
    assert np.abs(filled - ramp).max() < 4
    assert np.abs(filled - ramp)[~known].mean() < 1


def test_the_hole_stays_between_the_extremes_of_its_edge() -> None:
    random = np.random.default_rng(0)
    known = _hole(48, 40)
    values = random.uniform(-3, 7, (48, 40, 3)).astype(np.float32)
    filled = harmonic_fill(values, known)
    assert filled.min() >= values[known].min()
    assert filled.max() <= values[known].max()


def test_where_nothing_is_known_nothing_is_shifted() -> None:
    values = np.full((8, 8, 3), 9, np.float32)
    assert not harmonic_fill(values, np.zeros((8, 8), bool)).any()


def test_a_tint_is_taken_back_on_both_sides_of_the_edge() -> None:
    original = Image.new("RGB", (64, 64), (90, 140, 200))
    tinted = Image.new("RGB", (64, 64), (98, 137, 206))
    mask = Image.new("L", (64, 64), 0)
    mask.paste(255, (20, 10, 50, 40))
    assert np.abs(np.asarray(match_colors(tinted, original, mask), int) - np.asarray(original)).max() <= 1


def test_what_was_painted_keeps_its_shape() -> None:
    original = Image.new("RGB", (64, 64), (90, 140, 200))
    painted = Image.new("RGB", (64, 64), (98, 137, 206))
    painted.paste((220, 20, 20), (30, 20, 40, 30))
    mask = Image.new("L", (64, 64), 0)
    mask.paste(255, (20, 10, 50, 40))
    matched = np.asarray(match_colors(painted, original, mask), int)
    step = matched[25, 35] - matched[25, 25]
    np.testing.assert_allclose(step, np.array([220 - 98, 20 - 137, 20 - 206]), atol=2)


def test_a_mask_without_surroundings_changes_nothing() -> None:
    result = Image.new("RGB", (16, 16), (1, 2, 3))
    for value in (0, 255):
        assert match_colors(result, Image.new("RGB", (16, 16)), Image.new("L", (16, 16), value)) is result


def test_the_seam_of_a_large_image_does_not_show() -> None:
    original = np.full((200, 300, 3), (90, 140, 200), np.uint8)
    mask = np.zeros((200, 300), np.uint8)
    mask[80:120, 100:180] = 255
    seams = {}
    for match in (True, False):
        prepared = prepare(original, mask, make_options(match_colors=match), native=(64, 64), factor=8)
        decoded = prepared.image[0] + np.float32(0.06)
        painted = np.asarray(paste_back(prepared, decoded), int)
        np.testing.assert_array_equal(painted[mask == 0], original[mask == 0])
        seams[match] = np.abs(painted - original)[mask > 0].max()
    assert seams[True] <= 1
    assert seams[False] >= 6


def test_an_object_that_was_painted_differently_does_not_bleed_into_the_mask() -> None:
    original = Image.new("RGB", (64, 64), (90, 140, 200))
    original.paste((30, 140, 40), (24, 0, 36, 30))
    painted = Image.new("RGB", (64, 64), (95, 137, 204))
    mask = Image.new("L", (64, 64), 0)
    mask.paste(255, (16, 20, 48, 50))
    matched = np.asarray(match_colors(painted, original, mask), int)
    np.testing.assert_allclose(matched[20:50, 16:48], np.full((30, 32, 3), (90, 140, 200)), atol=1)


def test_where_only_content_surrounds_the_mask_nothing_is_shifted() -> None:
    original = Image.new("RGB", (64, 64), (90, 140, 200))
    original.paste((250, 0, 0), (10, 10, 54, 54))
    painted = Image.new("RGB", (64, 64), (90, 140, 200))
    mask = Image.new("L", (64, 64), 0)
    mask.paste(255, (20, 20, 44, 44))
    matched = match_colors(painted, original, mask)
    assert matched.tobytes() == Image.composite(painted, original, mask).tobytes()


def test_no_color_is_shifted_further_than_the_autoencoder_shifts_them() -> None:
    random = np.random.default_rng(3)
    original = np.full((80, 96, 3), 120, np.uint8)
    decoded = (original + random.integers(-4, 5, original.shape)).astype(np.uint8)
    decoded[20:26] += 20  # as much as a tint of another cause
    mask = Image.new("L", (96, 80), 0)
    mask.paste(255, (20, 26, 70, 60))
    matched = np.asarray(match_colors(Image.fromarray(decoded), Image.fromarray(original), mask), int)
    under_mask = np.abs(matched - decoded)[26:60, 20:70]
    assert 0 < under_mask.max() <= 12


def test_a_thin_frame_of_kept_pixels_is_enough() -> None:
    original = Image.new("RGB", (256, 256), (90, 140, 200))
    tinted = Image.new("RGB", (256, 256), (98, 137, 206))
    mask = Image.new("L", (256, 256), 255)
    mask.paste(0, (0, 1, 256, 2))
    matched = np.asarray(match_colors(tinted, original, mask), int)
    assert np.abs(matched - np.asarray(original)).max() <= 1
