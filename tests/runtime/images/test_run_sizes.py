"""Sizes that engines were built for: which one runs, and what is refused."""

import pytest

from inpaintrt.errors import ParameterError
from inpaintrt.images.run_sizes import RunSizes, nearest_size
from inpaintrt.options import Options, make_options

BUILT = ((512, 512), (768, 512), (512, 768))


@pytest.mark.parametrize(
    ("ideal", "expected"),
    [
        ((512, 512), (512, 512)),
        ((512, 480), (512, 512)),
        ((616, 424), (768, 512)),
        ((424, 616), (512, 768)),
        ((64, 64), (512, 512)),
        ((1024, 256), (768, 512)),
    ],
)
def test_the_size_of_like_area_and_proportions_is_nearest(
    ideal: tuple[int, int], expected: tuple[int, int]
) -> None:
    assert nearest_size(ideal, BUILT) == expected
    assert nearest_size(ideal, BUILT[::-1]) == expected


def test_of_like_proportions_the_area_decides() -> None:
    assert nearest_size((500, 500), ((256, 256), (512, 512), (1024, 1024))) == (512, 512)


def test_engines_for_any_size_take_every_size_on_the_grid() -> None:
    sizes = RunSizes((512, 512), 8)
    sizes.check((640, 8))
    with pytest.raises(ParameterError, match="multiples of 8"):
        sizes.check((640, 9))


def test_a_size_that_was_not_built_is_refused_with_those_that_were() -> None:
    sizes = RunSizes((512, 512), 8, BUILT)
    sizes.check((768, 512))
    expected = r"(?s)height=640, width=512.*height=512, width=768 or height=768.*--resolution 512x640"
    with pytest.raises(ParameterError, match=expected):
        sizes.check((512, 640))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (make_options(), None),
        (make_options(height=512), (768, 512)),
        (make_options(width=768, height=512), (768, 512)),
        (make_options(width=768, padding_mask_crop=8), None),
    ],
)
def test_one_side_that_is_given_decides_the_other(options: Options, expected: tuple[int, int] | None) -> None:
    assert RunSizes((512, 512), 8, BUILT).output((3000, 2000), options) == expected
