"""Options that several subcommands share."""

from __future__ import annotations

import click

__all__ = ["backend_option", "bundle_option", "threads_option"]

bundle_option = click.option(
    "--bundle",
    "-b",
    default="demo",
    show_default=True,
    help="A bundle's name in the engine store, or its path.",
)
backend_option = click.option(
    "--backend", default="onnxruntime", show_default=True, help="What runs the engines."
)
threads_option = click.option(
    "--threads", type=click.IntRange(min=1), help="Threads of the CPU engine; default: all cores."
)
