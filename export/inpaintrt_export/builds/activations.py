"""How much memory the networks of a bundle take while they run, measured."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np

from inpaintrt.bundle import Activations, choose_builds, load_manifest, replace_build
from inpaintrt.errors import ExportError
from inpaintrt_export.graphs.inputs import axis_sizes, input_shapes, random_inputs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from inpaintrt.bundle import Manifest
    from inpaintrt_export.progress import Progress

__all__ = ["fit_activations", "record_activations"]

_BACKEND: Final = "onnxruntime"
_SIDES: Final = (32, 64)
"""Height and width in latent pixels of the runs that are measured."""
_ROWS: Final = 2


def record_activations(folder: Path, scratch: Path, names: Sequence[str], progress: Progress) -> None:
    """Measure components as the backend "onnxruntime" runs them, and write that into the manifest.

    What was measured before is kept. Where the system cannot tell (it is not Linux), nothing is written.

    Args:
        folder: A bundle.
        scratch: A folder for files that are needed meanwhile.
        names: The components.
        progress: Called as the work goes on.

    Raises:
        ExportError: A network does not run.
    """
    for index, name in enumerate(names):
        manifest = load_manifest(folder)
        build = choose_builds(manifest, _BACKEND)[name]
        if build.activations is None and sys.platform == "linux":
            progress(f"{name}: measuring memory", index / len(names))
            measured = _measure(folder, scratch, manifest, name, linear=bool(build.fused))
            replace_build(folder, build, msgspec.structs.replace(build, activations=measured))


def _measure(folder: Path, scratch: Path, manifest: Manifest, name: str, *, linear: bool) -> Activations:
    sides = _SIDES[-1:] if linear else _SIDES
    measured = [_measure_run(folder, scratch, manifest, name, side) for side in sides]
    return fit_activations(measured, [side**2 for side in sides])


def fit_activations(measured: Sequence[float], positions: Sequence[int]) -> Activations:
    """The memory of one row or image for each latent pixel, and for each pair of them.

    Args:
        measured: Bytes that a run of one row or image takes; for two sizes, the smaller first, or for one
            size where memory is known to grow with the latent pixels alone.
        positions: Latent pixels of these sizes.
    """
    per_pair = 0.0
    if len(positions) > 1:
        small, large = positions
        excess = measured[1] - measured[0] * large / small
        per_pair = max(excess / (large**2 - small * large), 0.0)
    per_position = max((measured[-1] - per_pair * positions[-1] ** 2) / positions[-1], 0.0)
    return Activations(per_position=round(per_position, 1), per_pair=round(per_pair, 3))


def _measure_run(folder: Path, scratch: Path, manifest: Manifest, name: str, side: int) -> float:
    """Bytes for each row or image of a run, in a process of its own: memory that is kept would hide some."""
    factor = manifest.architecture.vae_scale_factor
    resolution = (side * factor, side * factor)
    sizes = axis_sizes(name, resolution, factor, manifest.window, rows=_ROWS)
    shapes = input_shapes(manifest.exported[name], sizes)
    inputs = scratch / f"{name}-{side}.npz"
    np.savez(inputs, allow_pickle=False, **random_inputs(manifest, name, shapes))
    command = [sys.executable, "-m", "inpaintrt_export.builds.peak", str(folder), name, str(inputs)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  our own
    if result.returncode:
        raise ExportError(
            f"the {name} does not run at {side * factor} x {side * factor}",
            received=" ".join(result.stderr.split("\n")[-5:]).strip() or f"exit status {result.returncode}",
            hint="check that this machine has enough memory for the checkpoint",
        )
    rows = shapes["timestep"][0] if "timestep" in shapes else 1
    return int(result.stdout) / rows
