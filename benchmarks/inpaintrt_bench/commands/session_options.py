"""Options of the subcommands that start runners."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from inpaintrt_bench.commands.options import output_option

__all__ = ["case_options", "parse_size", "session_options"]

_Command = TypeVar("_Command", bound=Callable[..., Any])
_SMALLEST = 64

_SESSION = (
    click.option(
        "--bundle", "-b", help="A bundle's name or path. Default: exported from --checkpoint, or the demo."
    ),
    click.option(
        "--checkpoint",
        help="The diffusers folder that the bundle was exported from, or synthetic:sd15-inpaint. "
        "Default: the demo's, where it is at hand.",
    ),
    click.option(
        "--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True, help="Where to run."
    ),
    click.option(
        "--threads",
        type=click.IntRange(min=1),
        help="Threads on the CPU. Default: each library's own choice.",
    ),
    click.option(
        "--timeout",
        type=click.FloatRange(min=1),
        default=1800,
        show_default=True,
        help="Seconds that one load or one run may take.",
    ),
    click.option(
        "--work",
        type=click.Path(path_type=Path, file_okay=False),
        help="Folder for synthetic checkpoints, exports and logs. Default: in the user's cache.",
    ),
    output_option,
)
_CASE = (
    click.option("--prompt", help="What to paint. Default: the demo's."),
    click.option(
        "--guidance", type=float, default=7.5, show_default=True, help="How strongly the prompt is followed."
    ),
    click.option("--seed", type=int, default=0, show_default=True, help="Of the noise."),
)


def session_options(command: _Command) -> _Command:
    """Add what is measured, and where."""
    return _add(command, _SESSION)


def case_options(command: _Command) -> _Command:
    """Add what is painted, but for size, steps, batch and sampler."""
    return _add(command, _CASE)


def _add(command: _Command, options: tuple[Callable[[Any], Any], ...]) -> _Command:
    for option in reversed(options):
        command = option(command)
    return command


def parse_size(context: click.Context, parameter: click.Parameter, value: Any) -> Any:  # noqa: ANN401, ARG001
    """Width and height of "512x512"; of each, where there are several."""
    if isinstance(value, tuple):
        return tuple(_size(text) for text in value)
    return _size(value)


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    if not (width.isdecimal() and height.isdecimal() and min(int(width), int(height)) >= _SMALLEST):
        raise click.BadParameter(f"{text!r} is not WIDTHxHEIGHT, such as 512x512, each from {_SMALLEST}")
    return int(width), int(height)
