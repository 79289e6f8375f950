"""What users may set of a backend, checked."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from inpaintrt.errors import ParameterError

__all__ = ["check_options", "flag", "whole_number"]


def check_options(backend: str, options: Mapping[str, Any], known: Collection[str]) -> None:
    """Check that a backend knows all options that are set; None counts as not set.

    Raises:
        ParameterError: One is unknown.
    """
    unknown = sorted(name for name, value in options.items() if name not in known and value is not None)
    if unknown:
        raise ParameterError(
            f"the backend {backend!r} has no such option",
            received=", ".join(unknown),
            expected=", ".join(known) or "no options",
        )


def whole_number(options: Mapping[str, Any], name: str, default: int, *, least: int) -> int:
    """An option that is a whole number.

    Raises:
        ParameterError: It is none, or too small.
    """
    value = options.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ParameterError(
            f"the option {name!r} is out of range", received=repr(value), expected=f"an integer from {least}"
        )
    return value


def flag(options: Mapping[str, Any], name: str, *, default: bool) -> bool:
    """An option that is on or off.

    Raises:
        ParameterError: It is neither.
    """
    value = options.get(name)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise ParameterError(
            f"the option {name!r} is on or off", received=repr(value), expected="True or False"
        )
    return value
