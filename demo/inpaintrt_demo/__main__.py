"""Run the demo's commands: `python -m inpaintrt_demo`."""

from inpaintrt.cli import run_command
from inpaintrt_demo.commands import demo

if __name__ == "__main__":
    run_command(demo, "python -m inpaintrt_demo")
