"""`inpaintrt bench soak`."""

from __future__ import annotations

from pathlib import Path

import click

from inpaintrt.cli.options import bundle_option
from inpaintrt_bench.commands.load_options import Load, load_options
from inpaintrt_bench.commands.options import output_option

__all__ = ["soak"]

_MOST_GROWTH = 0.1


@click.command()
@bundle_option
@click.option("--minutes", type=click.FloatRange(0, min_open=True), default=30.0, show_default=True)
@click.option(
    "--window",
    type=click.FloatRange(1),
    default=60.0,
    show_default=True,
    help="Seconds between two looks at the server.",
)
@click.option(
    "--load",
    "share",
    type=click.FloatRange(0, min_open=True),
    default=0.8,
    show_default=True,
    help="Rate as a fraction of the capacity.",
)
@click.option(
    "--hang-ups",
    type=click.FloatRange(0, 1),
    default=0.1,
    show_default=True,
    help="The share of clients that go away.",
)
@load_options
@output_option
def soak(
    bundle: str,
    minutes: float,
    window: float,
    share: float,
    hang_ups: float,
    load: Load,
    output: Path | None,
) -> None:
    """Whether the server's memory stays flat under load for long, and nothing is left behind.

    Exits with status 1 if a request was lost, a picture was wrong, a slot stayed taken, or memory grew by a
    tenth. Results are written as they come.
    """
    from inpaintrt_bench.commands.recording import record
    from inpaintrt_bench.schema import Scalar
    from inpaintrt_bench.serve.soak import SoakSettings, memory_growth, run_soak

    settings = SoakSettings(
        bundle,
        minutes,
        window,
        share,
        hang_ups=hang_ups,
        seed=load.seed,
        server_options=load.server_options,
    )
    described: dict[str, Scalar | list[Scalar]] = {
        "bundle": bundle,
        "minutes": minutes,
        "load": share,
        "hang_ups": hang_ups,
        "seed": load.seed,
    }
    snapshots = run_soak(settings, load.tasks(), load.apis, lambda text: click.echo(text, err=True))
    report = record("soak", snapshots, described, output)
    growth = memory_growth(report.rows)
    click.echo(f"From the second quarter to the last, the server's memory changed by {growth:+.1%}.")
    if growth > _MOST_GROWTH or any(row.status != "ok" for row in report.rows):
        raise click.exceptions.Exit(1)
