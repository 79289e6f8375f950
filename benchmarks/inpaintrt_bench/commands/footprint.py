"""`inpaintrt bench footprint`."""

from __future__ import annotations

from pathlib import Path

import click

from inpaintrt_bench.commands.options import output_option

__all__ = ["footprint"]


@click.command()
@output_option
def footprint(output: Path | None) -> None:
    """How much an installation with the extra `cpu` takes, in a fresh environment."""
    from inpaintrt_bench.footprint import installed_size
    from inpaintrt_bench.report import write_report

    write_report({"installed": installed_size()}, output)
