"""`inpaintrt doctor`: what this machine can run."""

from __future__ import annotations

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from inpaintrt.doctor import Diagnosis, examine

__all__ = ["doctor"]

_WIDTH_OF_FILES = 200


@click.command()
def doctor() -> None:
    """Tell which backends can run here, and what is missing for the others."""
    diagnosis = examine()
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = _WIDTH_OF_FILES
    console.print(escape(_gpu(diagnosis)))
    table = Table("backend", "usable", "found", "what to do")
    for backend in diagnosis.backends:
        usable = "[green]yes[/]" if backend.usable else "[red]no[/]"
        table.add_row(backend.name, usable, escape(backend.detail), escape(backend.cure or "-"))
    console.print(table)
    for warning in diagnosis.warnings:
        console.print(f"[yellow]warning:[/] {escape(warning)}")


def _gpu(diagnosis: Diagnosis) -> str:
    gpu = diagnosis.gpu
    if gpu is None:
        return f"GPU: none ({diagnosis.gpu_detail})"
    return f"GPU: {gpu.name}, {gpu.target}, driver for CUDA {diagnosis.driver}"
