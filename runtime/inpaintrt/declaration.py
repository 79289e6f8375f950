"""How an option is declared: one annotation has its type, range, description and default."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeVar, get_args, get_type_hints

from msgspec import Meta, inspect

from inpaintrt.array_like import finite_floats
from inpaintrt.errors import InputError, ParameterError
from inpaintrt.validation import checked

__all__ = ["Default", "FiniteFloats", "Option", "current_names", "declared_options"]

_Kind = TypeVar("_Kind")


@dataclass(frozen=True)
class Default:
    """The default of an option; options without one default to None.

    Attributes:
        value: The default.
    """

    value: object


@dataclass(frozen=True)
class FiniteFloats:
    """Marks an option that is an array of finite floats.

    Attributes:
        refusal: The class of the error where it is not.
    """

    refusal: type[InputError]


@dataclass(frozen=True)
class Option:
    """One option, as `Options` declares it.

    Attributes:
        name: Its name.
        annotation: Its type with all annotations.
        description: One or two sentences.
        default: What holds where the caller gives nothing.
    """

    name: str
    annotation: Any
    description: str
    default: object

    @property
    def is_array(self) -> bool:
        """Whether values are arrays, which are not for texts and JSON."""
        return _metadata(self.annotation, FiniteFloats) is not None

    @property
    def kind(self) -> inspect.Type:
        """The type as msgspec describes it, for options that are not arrays."""
        return inspect.type_info(self.annotation)

    def checked(self, value: object) -> object:
        """The value as the option's type.

        Raises:
            InputError: It has another type or is out of range.
        """
        floats = _metadata(self.annotation, FiniteFloats)
        if floats is None:
            return checked(self.name, value, self.annotation)
        return None if value is None else finite_floats(self.name, value, floats.refusal)


def _metadata(annotation: object, kind: type[_Kind]) -> _Kind | None:
    return next((part for part in reversed(get_args(annotation)[1:]) if isinstance(part, kind)), None)


def _read(name: str, annotation: object) -> Option:
    default, meta = _metadata(annotation, Default), _metadata(annotation, Meta)
    description = "" if meta is None or meta.description is None else meta.description
    return Option(name, annotation, description, None if default is None else default.value)


def declared_options(declaration: type) -> Mapping[str, Option]:
    """The options that a TypedDict declares, by name."""
    hints = get_type_hints(declaration, include_extras=True)
    return MappingProxyType({name: _read(name, hint) for name, hint in hints.items()})


def current_names(
    given: Mapping[str, object], renamed: Mapping[str, str]
) -> tuple[dict[str, object], list[str]]:
    """Replace former names of options.

    Args:
        given: Options by their names.
        renamed: Former names, and the names of today.

    Returns:
        The options under their names of today, and a note for each that came under a former name.

    Raises:
        ParameterError: An option comes under both of its names.
    """
    former = {old: new for old, new in renamed.items() if old in given}
    for old, new in former.items():
        if new in given:
            raise ParameterError(
                "an option is given twice", received=f"{old} and {new}", expected=new, parameter=old
            )
    notes = [
        f"the option {old!r} is now named {new!r}; the next version no longer accepts the former name"
        for old, new in former.items()
    ]
    return {former.get(name, name): value for name, value in given.items()}, notes
