"""The subcommands of `inpaintrt bench`, a module each."""

from __future__ import annotations

import click

from inpaintrt_bench.commands.build import build
from inpaintrt_bench.commands.coldstart import coldstart
from inpaintrt_bench.commands.compare import compare
from inpaintrt_bench.commands.hostile import hostile
from inpaintrt_bench.commands.latency import latency
from inpaintrt_bench.commands.mask import mask
from inpaintrt_bench.commands.memory import memory
from inpaintrt_bench.commands.overhead import overhead
from inpaintrt_bench.commands.quality import quality
from inpaintrt_bench.commands.report import report
from inpaintrt_bench.commands.serve import serve
from inpaintrt_bench.commands.size import size
from inpaintrt_bench.commands.soak import soak

__all__ = ["bench", "register"]


@click.group()
def bench() -> None:
    """Measure what the runtime costs, alone and beside others."""


for _command in (
    build,
    coldstart,
    compare,
    hostile,
    latency,
    mask,
    memory,
    overhead,
    quality,
    report,
    serve,
    size,
    soak,
):
    bench.add_command(_command)


def register(app: click.Group) -> None:
    """Add `bench` to the command line."""
    app.add_command(bench)
