"""Run the demo's commands: `python -m inpaintrt_export.demo`."""

from inpaintrt_export.demo.commands import demo_checkpoint

if __name__ == "__main__":
    demo_checkpoint()
