"""Sizes of axes, and the choice of a profile."""

import numpy as np
import pytest

from inpaintrt.backends.shapes import Shapes, axis_sizes, choose_profile, pad, resolve, row_buckets
from inpaintrt.bundle import TensorSpec
from inpaintrt.errors import EngineInputError

SPECS = {
    "state": TensorSpec(dtype="float32", shape=("slots", 6, "height", "width")),
    "timestep": TensorSpec(dtype="float32", shape=("rows",)),
}


def _shapes(slots: int, rows: int, height: int = 8, width: int = 8) -> Shapes:
    return {"state": (slots, 6, height, width), "timestep": (rows,)}


PROFILES = [_shapes(4, rows, height) for height in (8, 12) for rows in (8, 1, 2, 4)]


@pytest.mark.parametrize(
    ("wanted", "chosen"),
    [
        (_shapes(4, 1), _shapes(4, 1)),
        (_shapes(1, 3), _shapes(4, 4)),
        (_shapes(2, 8, 12), _shapes(4, 8, 12)),
        ({"state": (2, 6, 12, 8)}, _shapes(4, 1, 12)),
    ],
)
def test_the_smallest_profile_that_holds_the_tensors_is_chosen(wanted: Shapes, chosen: Shapes) -> None:
    assert PROFILES[choose_profile(PROFILES, SPECS, wanted)] == chosen


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (_shapes(4, 9), r"(?s)received: height 8, rows 9.*expected: .*height 8, rows 1;.*height 12, rows 4"),
        (_shapes(4, 1, 7), r"(?s)received: .*height 7.*expected: .*height 8.*height 12"),
        (_shapes(4, 1, 8, 9), r"(?s)received: .*width 9.*expected: .*width 8"),
        (_shapes(5, 1), r"(?s)received: .*slots 5.*expected: .*slots 4"),
    ],
)
def test_a_size_without_a_profile_is_refused_with_those_there_are(wanted: Shapes, message: str) -> None:
    with pytest.raises(EngineInputError, match=message):
        choose_profile(PROFILES, SPECS, wanted)


def test_axes_have_sizes_and_outputs_follow() -> None:
    sizes = axis_sizes(SPECS, _shapes(2, 3, 16, 24))
    assert sizes == {"slots": 2, "rows": 3, "height": 16, "width": 24}
    spec = TensorSpec(dtype="float32", shape=("slots", 8, "height/8", "8*width", "height"))
    assert resolve(spec, sizes) == (2, 8, 2, 192, 16)


@pytest.mark.parametrize("axis", ["depth", "height+1", "2*depth"])
def test_an_axis_that_follows_from_nothing_is_named(axis: str) -> None:
    spec = TensorSpec(dtype="float32", shape=(axis,))
    with pytest.raises(EngineInputError, match="size of an axis is not known"):
        resolve(spec, {"height": 8})


def test_padding_adds_zeros_and_copies_nothing_without_need() -> None:
    array = np.ones((2, 3), np.float16)
    assert pad(array, (2, 3)) is array
    padded = pad(array, (4, 3))
    assert padded.dtype == np.float16
    np.testing.assert_array_equal(padded, [[1, 1, 1], [1, 1, 1], [0, 0, 0], [0, 0, 0]])


@pytest.mark.parametrize(
    ("max_rows", "buckets"), [(1, (1,)), (2, (1, 2)), (6, (1, 2, 4, 6)), (16, (1, 2, 4, 8, 16))]
)
def test_rows_double_up_to_the_largest_number(max_rows: int, buckets: tuple[int, ...]) -> None:
    assert row_buckets(max_rows) == buckets
