"""Options of the subcommands that put a server under load."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import click

__all__ = ["load_options", "parse_size"]

Function = TypeVar("Function", bound=Callable[..., object])

_OPTIONS = (
    click.option(
        "--api",
        "apis",
        type=click.Choice(["inpaint", "openai", "webui"]),
        multiple=True,
        default=("inpaint",),
        show_default=True,
        help="Interface to ask; may be repeated.",
    ),
    click.option(
        "--size",
        "sizes",
        multiple=True,
        default=("128x128", "128x128", "128x128", "96x128"),
        show_default=True,
        help="Of a picture; may be repeated, and one that is named twice is twice as likely.",
    ),
    click.option("--fewest-steps", type=click.IntRange(1), default=10, show_default=True),
    click.option("--most-steps", type=click.IntRange(1), default=50, show_default=True),
    click.option(
        "--tasks", "count", type=click.IntRange(1), default=32, show_default=True, help="Different requests."
    ),
    click.option("--seed", default=0, show_default=True, help="Of arrivals and requests."),
    click.option(
        "--server-option",
        "server_options",
        multiple=True,
        metavar="WORD",
        help="A word for the server's command line, such as --server-option=--slots=4; may be repeated.",
    ),
)


def load_options(function: Function) -> Function:
    """Add the options to a command's function."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def parse_size(text: str) -> tuple[int, int]:
    """Width and height out of `128x96`.

    Raises:
        BadParameter: It looks different.
    """
    width, _, height = text.partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise click.BadParameter(f"{text!r} is not a size such as 128x96", param_hint="--size")
    return int(width), int(height)
