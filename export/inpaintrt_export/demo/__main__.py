"""Run the demo's commands: `python -m inpaintrt_export.demo`."""

from inpaintrt_export.demo.commands import main

if __name__ == "__main__":
    main()
