"""`inpaintrt bench memory`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from inpaintrt.cli.options import bundle_option
from inpaintrt_bench.commands.options import output_option

__all__ = ["memory"]

_SIZES = "128x128,256x256,512x512,768x768,16384x64,1024x1024"


@click.command()
@bundle_option
@click.option(
    "--sizes",
    default=_SIZES,
    show_default=True,
    help="Sizes to run at (width x height); the last is also sent as a burst.",
)
@click.option("--steps", type=click.IntRange(1), default=2, show_default=True, help="Steps of a request.")
@click.option(
    "--burst", type=click.IntRange(1), default=8, show_default=True, help="Requests at a time in the burst."
)
@click.option(
    "--server",
    "servers",
    multiple=True,
    metavar="NAME=PYTHON",
    help="An interpreter whose inpaintrt serves, to compare versions; may be repeated. Default: this one.",
)
@click.option(
    "--server-option",
    "server_options",
    multiple=True,
    metavar="WORD",
    help="A word for the servers; may be repeated.",
)
@output_option
def memory(
    bundle: str,
    sizes: str,
    steps: int,
    burst: int,
    servers: tuple[str, ...],
    server_options: tuple[str, ...],
    output: Path | None,
) -> None:
    """How much memory the server takes for images of each size, and whether it gives it back; on Linux.

    Every row has a server of its own; the burst goes to this version alone, since others may take all memory
    that there is. A request that the server refuses is a failed row with its reason.
    """
    from inpaintrt_bench.commands.recording import record
    from inpaintrt_bench.schema import Scalar
    from inpaintrt_bench.serve.memory import MemorySettings, measure_memory, read_pythons

    try:
        pythons = read_pythons(servers, sys.executable)
        pairs = tuple(_read_size(size) for size in sizes.split(","))
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    settings = MemorySettings(bundle, pairs, steps, burst, pythons, server_options)
    described: dict[str, Scalar | list[Scalar]] = {"bundle": bundle, "steps": steps}
    record("memory", measure_memory(settings, lambda text: click.echo(text, err=True)), described, output)


def _read_size(text: str) -> tuple[int, int]:
    width, sign, height = text.strip().partition("x")
    if not (sign and width.isdecimal() and height.isdecimal()):
        raise ValueError(f"{text!r} is not a size; sizes look like this: 512x512,768x768")
    return int(width), int(height)
