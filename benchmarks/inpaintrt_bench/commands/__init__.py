"""The subcommands of `inpaintrt bench`, a module each."""

from __future__ import annotations

import click

from inpaintrt_bench.commands.footprint import footprint
from inpaintrt_bench.commands.overhead import overhead
from inpaintrt_bench.commands.plans import plans

__all__ = ["bench", "register"]


@click.group()
def bench() -> None:
    """Measure what the runtime costs, alone and beside others."""


for _command in (
    footprint,
    overhead,
    plans,
):
    bench.add_command(_command)


def register(app: click.Group) -> None:
    """Add `bench` to the command line."""
    app.add_command(bench)
