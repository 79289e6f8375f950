"""Options that several subcommands share."""

from __future__ import annotations

from pathlib import Path

import click

__all__ = ["output_option"]

output_option = click.option(
    "--output", "-o", type=click.Path(path_type=Path), help="JSON file to write besides printing."
)
