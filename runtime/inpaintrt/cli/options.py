"""Options that several subcommands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

__all__ = ["bundle_option", "engine_options", "lora_option"]

_Command = TypeVar("_Command", bound=Callable[..., Any])

bundle_option = click.option(
    "--bundle",
    "-b",
    default="demo",
    show_default=True,
    help="A bundle's name in the engine store, or its path.",
)
lora_option = click.option(
    "--lora",
    "loras",
    multiple=True,
    metavar="FILE[:SCALE]",
    help="A LoRA as .safetensors, and how much of it, e.g. style.safetensors:0.8; may be repeated.",
)
_ENGINE_OPTIONS = (
    click.option("--backend", default="onnxruntime", show_default=True, help="What runs the engines."),
    click.option(
        "--threads", type=click.IntRange(min=1), help="Threads of the CPU engine; default: all cores."
    ),
    click.option("--device", type=click.IntRange(min=0), help="Number of the GPU; default: 0."),
    click.option(
        "--low-vram",
        is_flag=True,
        default=None,
        help="Keep the weights of one component at a time on the GPU.",
    ),
)


def engine_options(command: _Command) -> _Command:
    """Add `backend`, `threads`, `device` and `low_vram`; what is not given is None."""
    for option in reversed(_ENGINE_OPTIONS):
        command = option(command)
    return command
