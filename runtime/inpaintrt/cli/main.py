"""The command itself: its subcommands, and how errors reach the user."""

from __future__ import annotations

import sys
from importlib.metadata import entry_points, version
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from inpaintrt.cli import demonstrate, inspect, run
from inpaintrt.errors import InpaintError

__all__ = ["app", "main"]

# Which extra brings a package that a subcommand may find missing.
_EXTRAS = {
    "diffusers": "export",
    "huggingface_hub": "export",
    "onnx": "export",
    "onnxscript": "export",
    "psutil": "bench",
    "safetensors": "export",
    "torch": "export",
    "transformers": "export",
}
_INTERRUPTED = 130


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"inpaintrt {version('inpaintrt')}")
        raise typer.Exit


app = typer.Typer(
    name="inpaintrt",
    help="Export Stable Diffusion inpainting checkpoints to engines and run them, without PyTorch.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def _common(
    _: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


app.command()(run.run)
app.command(name="demo")(demonstrate.demo)
app.command(name="inspect")(inspect.inspect)
app.command()(inspect.samplers)
app.command()(inspect.bundles)

for _entry in entry_points(group="inpaintrt.commands"):
    _entry.load()(app)


def main() -> None:
    """Run the command line; an error of ours is told without a traceback, and the exit status is 1."""
    console = Console(stderr=True, highlight=False)
    try:
        app()
    except InpaintError as error:
        console.print(f"[bold red]error:[/] {escape(str(error))}", soft_wrap=True)
        sys.exit(1)
    except ModuleNotFoundError as error:
        extra = _EXTRAS.get((error.name or "").partition(".")[0])
        if extra is None:
            raise
        hint = escape(f"pip install 'inpaintrt[{extra}]'")
        console.print(f"[bold red]error:[/] this command needs {error.name}: {hint}", soft_wrap=True)
        sys.exit(1)
    except KeyboardInterrupt:
        console.print("interrupted")
        sys.exit(_INTERRUPTED)
