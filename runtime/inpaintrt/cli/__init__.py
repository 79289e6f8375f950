"""The command `inpaintrt`. The export and benchmark packages add their own subcommands to it."""

from inpaintrt.cli.main import app, main

__all__ = ["app", "main"]
