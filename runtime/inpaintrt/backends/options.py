"""What users may set of a backend, checked."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Annotated, Any, cast

from msgspec import Meta

from inpaintrt.errors import ParameterError
from inpaintrt.validation import checked

__all__ = ["check_options", "flag", "integer"]


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


def integer(options: Mapping[str, Any], name: str, default: int, *, minimum: int) -> int:
    """An option that is an integer.

    Raises:
        ParameterError: It is none, or too small.
    """
    value = options.get(name)
    if value is None:
        return default
    return cast("int", checked(name, value, Annotated[int, Meta(ge=minimum)]))


def flag(options: Mapping[str, Any], name: str, *, default: bool) -> bool:
    """An option that is on or off.

    Raises:
        ParameterError: It is neither.
    """
    value = options.get(name)
    return default if value is None else cast("bool", checked(name, value, bool))
