"""The command itself: its subcommands, and how errors reach the user."""

from __future__ import annotations

import sys
from importlib.metadata import entry_points, version

import click
from rich.console import Console
from rich.markup import escape

from inpaintrt.cli import demonstrate, doctor, inspect, run
from inpaintrt.errors import InpaintError

__all__ = ["app", "main", "run_command"]

# Which extra brings a package that a subcommand may find missing.
_EXTRAS = {
    "diffusers": "export,cpu",
    "fastapi": "serve",
    "huggingface_hub": "export,cpu",
    "httpx": "bench",
    "matplotlib": "bench",
    "onnx": "export,cpu",
    "onnxscript": "export,cpu",
    "prometheus_client": "serve",
    "psutil": "bench",
    "pynvml": "bench",
    "pydantic": "serve",
    "onnx_ir": "export,cpu",
    "pydantic_settings": "serve",
    "torch": "export,cpu",
    "transformers": "export,cpu",
    "uvicorn": "serve",
}
_INTERRUPTED = 130


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version("inpaintrt"), prog_name="inpaintrt", message="%(prog)s %(version)s")
def app() -> None:
    """Export Stable Diffusion inpainting checkpoints to engines and run them, without PyTorch."""


for _command in (
    run.run,
    demonstrate.demo,
    doctor.doctor,
    inspect.inspect,
    inspect.samplers,
    inspect.presets,
    inspect.bundles,
):
    app.add_command(_command)

for _entry in entry_points(group="inpaintrt.commands"):
    _entry.load()(app)


def main() -> None:
    """Run the command line `inpaintrt`."""
    run_command(app)


def run_command(command: click.Command, name: str | None = None) -> None:
    """Run a command line; an error of ours is told without a traceback, and the exit status is 1.

    Args:
        command: The command, with the process's arguments as its own.
        name: How its help calls it; None for the name of the program that runs.
    """
    console = Console(stderr=True, highlight=False)
    try:
        command.main(prog_name=name, standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.exceptions.Exit as request:
        sys.exit(request.exit_code)
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
    except (KeyboardInterrupt, click.Abort):
        console.print("interrupted")
        sys.exit(_INTERRUPTED)
