"""The command `inpaintrt`. The export and benchmark packages add their own subcommands to it."""

from inpaintrt.cli.main import app, main, run_command

__all__ = ["app", "main", "run_command"]
