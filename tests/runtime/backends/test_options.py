"""Options of backends."""

import pytest

from inpaintrt.backends.options import check_options, flag, integer
from inpaintrt.errors import ParameterError


def test_options_that_are_not_set_are_not_looked_at() -> None:
    check_options("some", {"threads": None}, ("device",))
    assert integer({"device": None}, "device", 3, minimum=0) == 3
    assert flag({}, "low_vram", default=False) is False


def test_options_that_are_set_are_taken() -> None:
    check_options("some", {"device": 1}, ("device",))
    assert integer({"device": 0}, "device", 3, minimum=0) == 0
    assert flag({"low_vram": True}, "low_vram", default=False) is True


def test_an_unknown_option_is_named() -> None:
    with pytest.raises(ParameterError, match=r"(?s)'some'.*threads.*device, low_vram"):
        check_options("some", {"threads": 4}, ("device", "low_vram"))


@pytest.mark.parametrize("value", [-1, 1.5, True, "0"])
def test_a_number_out_of_range_is_refused(value: object) -> None:
    with pytest.raises(ParameterError, match=r"(?s)^device is.*integer from 0"):
        integer({"device": value}, "device", 0, minimum=0)


def test_a_flag_is_on_or_off() -> None:
    with pytest.raises(ParameterError, match="True or False"):
        flag({"low_vram": 1}, "low_vram", default=False)
