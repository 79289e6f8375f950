"""`inpaintrt bench serve`."""

from __future__ import annotations

from pathlib import Path

import click

from inpaintrt.cli.options import bundle_option
from inpaintrt_bench.commands.load_options import Load, load_options
from inpaintrt_bench.commands.options import output_option

__all__ = ["serve"]


@click.command()
@bundle_option
@click.option(
    "--mode",
    "modes",
    type=click.Choice(["continuous", "whole-batches", "one-at-a-time"]),
    multiple=True,
    default=("continuous", "whole-batches", "one-at-a-time"),
    show_default=True,
    help="How the server batches; may be repeated. Loads are relative to the first one's capacity.",
)
@click.option(
    "--load",
    "loads",
    type=click.FloatRange(0, min_open=True),
    multiple=True,
    default=(0.5, 0.8, 1.2),
    show_default=True,
    help="Rate as a fraction of the capacity; may be repeated.",
)
@click.option(
    "--rate", "rates", type=click.FloatRange(0, min_open=True), multiple=True, help="Requests a second."
)
@click.option("--seconds", type=click.FloatRange(1), default=30.0, show_default=True, help="Of each load.")
@click.option(
    "--capacity-seconds",
    type=click.FloatRange(1),
    default=15.0,
    show_default=True,
    help="Of each measurement of the capacity.",
)
@click.option(
    "--rounds",
    type=click.IntRange(1),
    default=2,
    show_default=True,
    help="How often everything is repeated, the modes in turn.",
)
@click.option(
    "--clients",
    type=click.IntRange(1),
    default=16,
    show_default=True,
    help="Requests in flight while the capacity is measured.",
)
@load_options
@output_option
def serve(
    bundle: str,
    modes: tuple[str, ...],
    loads: tuple[float, ...],
    rates: tuple[float, ...],
    seconds: float,
    capacity_seconds: float,
    rounds: int,
    clients: int,
    load: Load,
    output: Path | None,
) -> None:
    """How long clients wait for the server under load, and how many it serves.

    Requests arrive at random times (Poisson) whatever the server does; latency counts from the time that was
    drawn. The clients are one process, the server another; on a machine with few cores they share them. Every
    picture is compared with the one that the pipeline paints alone. Results are written after each server.
    """
    from inpaintrt_bench.commands.recording import record
    from inpaintrt_bench.serve.study import Study, StudySettings

    settings = StudySettings(
        bundle,
        modes,
        loads,
        rates,
        seconds,
        capacity_seconds,
        rounds,
        clients,
        load.server_options,
        load.seed,
    )
    study = Study(settings, load.tasks(), load.apis, lambda text: click.echo(text, err=True))
    record("serve", study.run(), study.describe(), output, notes=_NOTES)


_NOTES = (
    "The process of the clients shares the processor with the server.",
    "Requests repeat: the server's caches of prompts and encoded pictures are warm, in every mode alike.",
)
