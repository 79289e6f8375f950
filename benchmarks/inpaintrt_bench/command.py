"""The command group `inpaintrt bench`; the module of a subcommand is imported when it is asked for."""

from __future__ import annotations

from importlib import import_module

import click

__all__ = ["SUBCOMMANDS", "bench", "register"]

SUBCOMMANDS = {
    "build": "What it costs to export a checkpoint and to build its plans.",
    "coldstart": "From the start of a process to its first image.",
    "compare": "Ours beside PyTorch and others, every image compared with PyTorch's.",
    "footprint": "Time and memory of loading a bundle, and of each stage of its first request.",
    "hostile": "What the server does with damaged, enormous and lying requests.",
    "ladder": "From PyTorch to the fast mode, rung by rung: time, memory, and what images show.",
    "latency": "How long one bundle takes, over batch, size, steps and samplers.",
    "mask": "What a large image costs against the area of its mask.",
    "memory": "How much memory the server takes for images of each size.",
    "overhead": "What the runtime itself costs.",
    "quality": "What speed settings do to a bundle's images, and the choice of them.",
    "report": "Make the tables of documents, and all plots, of a folder of results.",
    "serve": "How long clients wait for the server under load.",
    "size": "How much room an installation takes, ours and its peers'.",
    "soak": "Whether the server's memory stays flat under load for long.",
}
"""What the list of subcommands says of each."""

_PACKAGE = "inpaintrt_bench"


class _Subcommands(click.Group):
    """Lists its subcommands without importing them: they need the extra `bench`, and the list does not."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(SUBCOMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in SUBCOMMANDS:
            return None
        module = "publishing" if cmd_name == "report" else f"measurements.{cmd_name}"
        command: click.Command = getattr(import_module(f"{_PACKAGE}.{module}"), cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl(list(SUBCOMMANDS.items()))


@click.group(cls=_Subcommands)
def bench() -> None:
    """Measure what the runtime costs, alone and beside others."""


def register(app: click.Group) -> None:
    """Add `bench` to the command line."""
    app.add_command(bench)
