"""The speed of a matrix product: `python -m inpaintrt_bench.workers.peak DEVICE`.

DEVICE is "cpu" (float32; the faster of NumPy and, where it is installed, PyTorch) or "cuda" (float16 in
PyTorch).
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np

__all__ = ["main", "measure_peak"]

_SIZES = {"cpu": 2048, "cuda": 8192}
_DTYPES = {"cpu": "float32", "cuda": "float16"}
_REPEATS = 8


def measure_peak(device: str) -> dict[str, Any]:
    """The best of several products of square matrices, as the fields of the schema's `Peak`."""
    size = _SIZES[device]
    candidates = {"torch": _with_torch(device, size)} if find_spec("torch") is not None else {}
    if device == "cpu":
        candidates["numpy"] = _with_numpy(size)
    if not candidates:
        raise RuntimeError("PyTorch is not installed, and nothing else multiplies on this device")
    library = min(candidates, key=lambda name: candidates[name])
    return {
        "operations_per_second": 2 * size**3 / candidates[library],
        "dtype": _DTYPES[device],
        "size": size,
        "library": library,
    }


def _with_numpy(size: int) -> float:
    matrix = np.random.default_rng(0).standard_normal((size, size), np.float32)
    return _fastest(lambda: matrix @ matrix)


def _with_torch(device: str, size: int) -> float:
    import torch

    matrix = torch.randn(size, size, device=device, dtype=getattr(torch, _DTYPES[device]))

    def multiply() -> None:
        _ = matrix @ matrix
        if device == "cuda":
            torch.cuda.synchronize()

    return _fastest(multiply)


def _fastest(multiply: Callable[[], object]) -> float:
    times = []
    for _ in range(_REPEATS):
        started = time.perf_counter()
        multiply()
        times.append(time.perf_counter() - started)
    return min(times)


def main() -> None:
    """Print what was measured as one JSON object."""
    sys.stdout.write(json.dumps(measure_peak(sys.argv[1])) + "\n")


if __name__ == "__main__":
    main()
