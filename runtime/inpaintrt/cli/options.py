"""Options that several subcommands share."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["Backend", "Bundle", "Threads"]

Bundle = Annotated[
    str, typer.Option("--bundle", "-b", help="A bundle's name in the engine store, or its path.")
]
Backend = Annotated[str, typer.Option("--backend", help="What runs the engines.")]
Threads = Annotated[
    int | None, typer.Option("--threads", min=1, help="Threads of the CPU engine; default: all cores.")
]
