"""`inpaintrt bench size`."""

from __future__ import annotations

from pathlib import Path

import click

from inpaintrt_bench.commands.options import output_option

__all__ = ["size"]


@click.command()
@click.option("--only", multiple=True, help="Measure only the installation of this name; may be repeated.")
@output_option
def size(only: tuple[str, ...], output: Path | None) -> None:
    """How much room an installation takes, ours and its peers', each in a fresh environment.

    pip downloads a few gigabytes for all of them.
    """
    from inpaintrt_bench.reporting import hand_out, make_report
    from inpaintrt_bench.size import INSTALLATIONS, measure_installation

    names = [installation.name for installation in INSTALLATIONS]
    unknown = [name for name in only if name not in names]
    if unknown:
        raise click.BadParameter(f"{', '.join(unknown)} is none of {', '.join(names)}", param_hint="--only")
    rows = []
    for installation in INSTALLATIONS:
        if not only or installation.name in only:
            click.echo(f"installing {installation.name}", err=True)
            rows.append(measure_installation(installation))
    hand_out(make_report("size", rows, {}), output)
