"""Which part of an image runs, and at which size."""

import pytest

from inpaintrt.images import Box
from inpaintrt.images.regions import context_box, fit, nearest_multiple, overfill, run_size


@pytest.mark.parametrize(("side", "expected"), [(1, 8), (11.9, 8), (13, 16), (512.0001, 512), (511.9, 512)])
def test_the_nearest_multiple_is_never_0(side: float, expected: int) -> None:
    assert nearest_multiple(side, 8) == expected


def test_the_context_is_32_pixels_or_a_quarter_of_the_box() -> None:
    small = context_box(Box(1000, 1000, 1040, 1020), (4000, 3000), (64, 64), 0)
    assert small == Box(968, 968, 1072, 1052)
    large = context_box(Box(1000, 1000, 1401, 1020), (4000, 3000), (64, 64), 0)
    assert large == Box(899, 968, 1502, 1052)


def test_the_context_reaches_as_far_as_the_blur() -> None:
    box = context_box(Box(1000, 1000, 1040, 1020), (4000, 3000), (64, 64), 90)
    assert box == Box(910, 910, 1130, 1110)


def test_the_box_grows_to_the_native_size() -> None:
    assert context_box(Box(1000, 1000, 1040, 1020), (4000, 3000), (512, 512), 0).size == (512, 512)


def test_the_box_is_shifted_into_the_image() -> None:
    assert context_box(Box(0, 2980, 40, 3000), (4000, 3000), (512, 512), 0) == Box(0, 2488, 512, 3000)


def test_the_box_is_not_larger_than_the_image() -> None:
    assert context_box(Box(100, 0, 140, 90), (4000, 100), (512, 512), 0) == Box(0, 0, 512, 100)


def test_a_small_box_keeps_its_size() -> None:
    assert run_size((300, 411), (512, 512), 8) == (300, 411)


@pytest.mark.parametrize(
    ("box", "expected"), [((1000, 1000), (512, 512)), ((1500, 1000), (624, 416)), ((6000, 8), (6000, 8))]
)
def test_a_large_box_is_scaled_to_the_native_area(box: tuple[int, int], expected: tuple[int, int]) -> None:
    assert run_size(box, (512, 512), 8) == expected


def test_a_scaled_box_keeps_its_proportions_about() -> None:
    width, height = run_size((3777, 1111), (512, 512), 8)
    assert width % 8 == height % 8 == 0
    assert width * height == pytest.approx(512 * 512, rel=0.03)
    assert width / height == pytest.approx(3777 / 1111, rel=0.03)


def test_fit_and_overfill() -> None:
    assert fit((200, 100), (64, 64)) == Box(0, 16, 64, 48)
    assert fit((100, 200), (64, 64)) == Box(16, 0, 48, 64)
    assert overfill((200, 100), (64, 64)) == Box(-32, 0, 96, 64)


def test_a_sliver_keeps_one_pixel() -> None:
    assert fit((8, 6000), (512, 512)).size == (1, 512)
