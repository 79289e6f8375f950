"""The options' ranges."""

import pytest

from inpaintrt.errors import ParameterError
from inpaintrt.images import ImageOptions


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("height", 7),
        ("height", 512.0),
        ("width", 0),
        ("width", True),
        ("width", 16385),
        ("padding_mask_crop", -1),
        ("padding_mask_crop", 1.5),
        ("mask_blur", -0.1),
        ("mask_blur", float("nan")),
        ("mask_blur", float("inf")),
        ("mask_blur", "4"),
        ("mask_blur", True),
        ("mask_grow", 4097),
        ("mask_grow", 0.5),
        ("fill", "gray"),
        ("compat", "webui"),
        ("margins", (0, 0, 0)),
        ("margins", [0, 0, 0, 0]),
        ("margins", (0, 0, 0, -1)),
        ("margins", (0, 0, 0, 1.0)),
    ],
)
def test_a_value_out_of_range_is_refused(name: str, value: object) -> None:
    with pytest.raises(ParameterError, match=name.removesuffix("s")):
        ImageOptions(**{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["height", "width", "padding_mask_crop", "mask_blur", "mask_grow"])
def test_the_smallest_values_are_accepted(name: str) -> None:
    smallest = {"height": 8, "width": 8, "mask_grow": -4096}.get(name, 0)
    assert getattr(ImageOptions(**{name: smallest}), name) == smallest  # type: ignore[arg-type]


def test_compat_refuses_what_diffusers_does_not_have() -> None:
    with pytest.raises(ParameterError, match="fill='grey'"):
        ImageOptions(compat="diffusers", fill="grey")
    with pytest.raises(ParameterError, match="margins"):
        ImageOptions(compat="diffusers", margins=(1, 0, 0, 0))
