"""`python -m inpaintrt_export.builds.peak BUNDLE COMPONENT INPUTS`: the memory of one run, in bytes.

It is what the process grows by at most, as Linux counts it. Neither PyTorch nor ONNX is imported: memory
that they have freed would be used again, and not be counted.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from inpaintrt.backends.onnxruntime import open_engine
from inpaintrt.bundle import choose_builds, load_manifest
from inpaintrt_export.memory import peak_bytes, resident_bytes

__all__ = ["main"]


def main() -> None:
    """Run a component once, and print by how much that raised the peak."""
    bundle, name, inputs = sys.argv[1:]
    build = choose_builds(load_manifest(Path(bundle)), "onnxruntime")[name]
    with np.load(inputs) as file:
        arrays = dict(file)
    engine = open_engine(Path(bundle), build, {})
    before = resident_bytes()
    engine.run(arrays)
    sys.stdout.write(str(max((peak_bytes() or 0) - before, 0)))


if __name__ == "__main__":
    main()
