"""`inpaintrt bench hostile`."""

from __future__ import annotations

from pathlib import Path

import click

from inpaintrt.cli.options import bundle_option
from inpaintrt_bench.commands.options import output_option

__all__ = ["hostile"]


@click.command()
@bundle_option
@click.option(
    "--uploads", type=click.IntRange(1), default=10_000, show_default=True, help="Hostile requests to send."
)
@click.option("--clients", type=click.IntRange(1), default=4, show_default=True, help="Requests in flight.")
@click.option(
    "--largest-runs",
    type=click.IntRange(0),
    default=4,
    show_default=True,
    help="Requests of the largest size to run at, all at once.",
)
@click.option("--seed", default=0, show_default=True, help="The same seed sends the same requests.")
@click.option(
    "--server-option",
    "server_options",
    multiple=True,
    metavar="WORD",
    help="A word for the server; may be repeated.",
)
@output_option
def hostile(
    bundle: str,
    uploads: int,
    clients: int,
    largest_runs: int,
    seed: int,
    server_options: tuple[str, ...],
    output: Path | None,
) -> None:
    """What the server does with damaged, enormous and lying requests, on all its interfaces.

    After them comes a flood of connections, with health probes beside it, and requests of the largest size.

    Exits with status 1 unless everything was refused that has to be. Results are written as they come.
    """
    from inpaintrt_bench.commands.recording import record
    from inpaintrt_bench.schema import Scalar
    from inpaintrt_bench.serve.hostile import HostileSettings, run_hostile

    settings = HostileSettings(
        bundle,
        uploads=uploads,
        clients=clients,
        largest_runs=largest_runs,
        seed=seed,
        server_options=server_options,
    )
    described: dict[str, Scalar | list[Scalar]] = {
        "bundle": bundle,
        "uploads": uploads,
        "clients": clients,
        "largest_runs": largest_runs,
        "seed": seed,
    }
    snapshots = run_hostile(settings, lambda text: click.echo(text, err=True))
    report = record("hostile", snapshots, described, output)
    if any(row.status != "ok" for row in report.rows):
        raise click.exceptions.Exit(1)
