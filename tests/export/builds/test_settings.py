"""What can be asked of a build."""

from typing import Any

import pytest

from inpaintrt.backends.tensorrt_library import PlanLibrary
from inpaintrt.errors import ParameterError
from inpaintrt_export.builds.settings import BuildSettings, check_targets, parse_resolution


@pytest.mark.parametrize(
    "options",
    [
        {"max_batch": 0},
        {"max_batch": 65},
        {"prompt_windows": 0},
        {"prompt_windows": 17},
        {"targets": ("8.9",)},
    ],
)
def test_settings_out_of_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ParameterError, match=r"(?s)received.*expected"):
        BuildSettings("tensorrt-rtx", **options)


def test_a_size_is_width_by_height() -> None:
    assert parse_resolution(" 768X512 ") == (512, 768)


@pytest.mark.parametrize("text", ["768", "768x", "x512", "768x512x3", "-8x8"])
def test_another_form_of_size_is_refused(text: str) -> None:
    with pytest.raises(ParameterError, match="WIDTHxHEIGHT"):
        parse_resolution(text)


def test_rtx_builds_for_the_gpus_it_knows(rtx: PlanLibrary) -> None:
    check_targets(rtx, ())
    check_targets(rtx, ("sm86", "sm89", "sm120"))
    with pytest.raises(ParameterError, match=r"(?s)received: sm90.*sm75, sm80, sm86, sm89, sm120"):
        check_targets(rtx, ("sm89", "sm90"))


def test_tensorrt_builds_for_this_machine_only() -> None:
    library = PlanLibrary("tensorrt", object(), object())
    check_targets(library, ())
    with pytest.raises(ParameterError, match="GPU of this machine only"):
        check_targets(library, ("sm89",))
