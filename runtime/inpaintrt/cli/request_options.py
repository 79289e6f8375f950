"""The options of `inpaintrt run`, derived from the declaration of the pipeline's options."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, TypeVar

import click
from msgspec import inspect

from inpaintrt.declaration import Option
from inpaintrt.options import OPTIONS, RENAMED
from inpaintrt.validation import alternatives, describe

__all__ = ["click_option", "request_options"]

_Command = TypeVar("_Command", bound=Callable[..., Any])

# The command writes files, whatever a caller in Python may ask for.
_LEFT_OUT = ("output_type",)
_FLAGS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "num_inference_steps": ("--steps",),
        "guidance_scale": ("--guidance",),
        "num_images_per_prompt": ("--count", "-n"),
        "match_colors": ("--match-colors/--keep-colors",),
        "match_colours": ("--match-colours/--keep-colours",),
    }
)


class _Numbers(click.ParamType[object]):
    """Numbers with commas between them.

    Args:
        number: The type of each.
        or_one: A single number is that number, not a list of one.
    """

    name = "numbers"

    def __init__(self, number: type[int] | type[float], *, or_one: bool) -> None:
        self._number = number
        self._or_one = or_one

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> object:
        try:
            numbers = [self._number(part) for part in value.split(",")]
        except ValueError:
            self.fail(f"{value!r} is neither a number nor several with commas between them", param, ctx)
        return numbers[0] if self._or_one and len(numbers) == 1 else numbers


def request_options(command: _Command) -> _Command:
    """Add an option for each of the pipeline's that can be written as text, and hidden ones for former names.

    The parameter of an option that is not given is None. The pipeline checks ranges, not click.
    """
    for old, new in RENAMED.items():
        command = click_option(OPTIONS[new], old, hidden=True)(command)
    for option in reversed(tuple(OPTIONS.values())):
        if not option.is_array and option.name not in _LEFT_OUT:
            command = click_option(option, option.name)(command)
    return command


def click_option(option: Option, name: str, *, hidden: bool = False) -> Callable[[_Command], _Command]:
    """An option of the pipeline as click's decorator.

    Args:
        option: The option.
        name: Its name, or a former one.
        hidden: Leave it out of the help.
    """
    flags = _FLAGS.get(name, (f"--{name.replace('_', '-')}",))
    return click.option(
        *flags,
        name,
        default=None,
        help=_help(option),
        hidden=hidden,
        **_parsing(option),
    )


def _parsing(option: Option) -> dict[str, Any]:
    """How click reads the option's text."""
    choices = [kind for kind in alternatives(option.kind) if not isinstance(kind, inspect.NoneType)]
    lists = [kind for kind in choices if isinstance(kind, inspect.ListType)]
    match choices[0]:
        case inspect.BoolType():
            return {"is_flag": True}
        case inspect.TupleType(item_types=items):
            return {"nargs": len(items), "type": _number(items[0])}
        case inspect.LiteralType(values=values):
            return {"metavar": f"[{'|'.join(map(str, values))}]"}
        case inspect.ListType(item_type=item):
            return {"type": _Numbers(_number(item), or_one=False)}
        case inspect.IntType() | inspect.FloatType() as number:
            return {"type": _Numbers(_number(number), or_one=True) if lists else _number(number)}
        case _:
            return {"type": str}


def _number(kind: inspect.Type) -> type[int] | type[float]:
    (inner,) = alternatives(kind)
    return int if isinstance(inner, inspect.IntType) else float


def _help(option: Option) -> str:
    kinds = [
        kind for kind in alternatives(option.kind) if isinstance(kind, inspect.IntType | inspect.FloatType)
    ]
    details = [describe(kind) for kind in kinds if kind.ge is not None]
    if option.default is not None:
        details.append(f"default: {_text(option.default)}")
    return f"{option.description} ({'; '.join(details)})" if details else option.description


def _text(default: object) -> str:
    if isinstance(default, bool):
        return "on" if default else "off"
    return " ".join(map(str, default)) if isinstance(default, tuple) else str(default)
