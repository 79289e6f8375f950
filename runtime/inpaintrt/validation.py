"""Check values against annotated types with msgspec, and report what does not fit as a ParameterError."""

from __future__ import annotations

import math
import reprlib

import msgspec
import numpy as np
from msgspec import inspect

from inpaintrt.errors import ParameterError

__all__ = ["alternatives", "checked", "describe"]


def checked(name: str, value: object, annotation: object) -> object:
    """Convert a value to an annotated type.

    NumPy scalars count as Python numbers, NumPy arrays as lists, integers as floats, and lists as tuples;
    floats must be finite.

    Args:
        name: The parameter's name, for the error.
        value: Any object.
        annotation: A type that msgspec understands, usually `Annotated[..., msgspec.Meta(...)]`.

    Returns:
        The value as that type.

    Raises:
        ParameterError: The value has another type or is out of range.
    """
    plain = _without_numpy(value)
    try:
        converted = msgspec.convert(plain, annotation)
    except (msgspec.ValidationError, OverflowError):
        converted = math.nan
    if not _is_finite(converted):
        kind = inspect.type_info(annotation)
        raise ParameterError(
            f"{name} {_problem(plain, kind)}",
            received=reprlib.repr(value) if isinstance(plain, list) else repr(value),
            expected=describe(kind),
            parameter=name,
        )
    return converted


def describe(kind: inspect.Type) -> str:
    """Describe a type in words, such as "an integer from 1 to 1000"."""
    match kind:
        case inspect.Metadata():
            return describe(kind.type)
        case inspect.UnionType():
            return _join([describe(part) for part in kind.types])
        case inspect.IntType() | inspect.FloatType():
            return _describe_number(kind)
        case inspect.LiteralType():
            return _join([repr(choice) for choice in kind.values])
        case inspect.TupleType():
            return f"{len(kind.item_types)} values, each {describe(kind.item_types[0])}"
        case inspect.ListType():
            return f"{_describe_length(kind)} {describe(kind.item_type)}"
        case inspect.BoolType():
            return "True or False"
        case inspect.StrType():
            return "a string"
        case inspect.NoneType():
            return "None"
        case _:
            raise AssertionError(f"{kind} has no description: this is a bug")


def alternatives(kind: inspect.Type) -> tuple[inspect.Type, ...]:
    """The members of a union; a type that is none by itself."""
    inner = kind.type if isinstance(kind, inspect.Metadata) else kind
    return inner.types if isinstance(inner, inspect.UnionType) else (inner,)


def _join(choices: list[str]) -> str:
    *others, last = choices
    return f"{', '.join(others)} or {last}" if others else last


def _describe_length(kind: inspect.ListType) -> str:
    if kind.max_length is not None:
        return f"a list of {kind.min_length or 0} to {kind.max_length} items, each"
    return "a non-empty list with each item" if kind.min_length else "a list with each item"


def _describe_number(kind: inspect.IntType | inspect.FloatType) -> str:
    limits = [
        f"{word} {limit:g}" if isinstance(limit, float) else f"{word} {limit}"
        for word, limit in (("above", kind.gt), ("from", kind.ge), ("below", kind.lt), ("to", kind.le))
        if limit is not None
    ]
    multiple = "" if kind.multiple_of is None else f", a multiple of {kind.multiple_of}"
    noun = "an integer" if isinstance(kind, inspect.IntType) else "a number" if limits else "a finite number"
    return " ".join([noun, *limits]) + multiple


def _is_finite(value: object) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_finite, value))
    return not isinstance(value, float) or math.isfinite(value)


def _problem(value: object, kind: inspect.Type) -> str:
    kinds = alternatives(kind)
    if isinstance(value, str) and any(isinstance(part, inspect.LiteralType) for part in kinds):
        return "is unknown"
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if is_number and any(isinstance(part, inspect.IntType | inspect.FloatType) for part in kinds):
        return "is out of range"
    return "is not valid"


def _without_numpy(value: object) -> object:
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, list | tuple):
        return [_without_numpy(item) for item in value]
    return value
