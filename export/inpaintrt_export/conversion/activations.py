"""How much memory the networks of a bundle take while they run, measured."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np

from inpaintrt.bundle import Activations, choose_networks, load_manifest, save_manifest
from inpaintrt.errors import ExportError
from inpaintrt_export.conversion.judging import example_inputs
from inpaintrt_export.plans.profiles import make_profiles
from inpaintrt_export.plans.settings import BuildSettings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from inpaintrt.bundle import Component, Manifest
    from inpaintrt_export.progress import Progress

__all__ = ["fit_activations", "note_activations"]

_BACKEND: Final = "onnxruntime"
_SIDES: Final = (32, 64)
"""Height and width in latent pixels of the runs that are measured."""


def note_activations(folder: Path, scratch: Path, names: Sequence[str], progress: Progress) -> None:
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
    manifest = load_manifest(folder)
    networks = choose_networks(manifest, _BACKEND)
    for index, name in enumerate(names):
        if networks[name].activations is None and sys.platform == "linux":
            progress(f"{name}: measuring memory", index / len(names))
            fused = networks[name] != manifest.components[name]
            measured = _measure(folder, scratch, manifest, name, linear=fused)
            manifest = _with_activations(manifest, name, networks[name], measured)
            save_manifest(manifest, folder)


def _with_activations(manifest: Manifest, name: str, network: Component, measured: Activations) -> Manifest:
    changed = msgspec.structs.replace(network, activations=measured)
    if manifest.components[name] == network:
        return msgspec.structs.replace(manifest, components={**manifest.components, name: changed})
    variants = tuple(
        msgspec.structs.replace(variant, network=changed) if variant.network == network else variant
        for variant in manifest.variants
    )
    return msgspec.structs.replace(manifest, variants=variants)


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
    settings = BuildSettings("tensorrt-rtx", resolutions=((side * factor, side * factor),), max_batch=1)
    profile = make_profiles(
        name, manifest.components[name], manifest.architecture, manifest.tokenizer.max_length, settings
    )[-1]
    inputs = scratch / f"{name}-{side}.npz"
    np.savez(inputs, allow_pickle=False, **example_inputs(manifest, name, profile))
    command = [sys.executable, "-m", "inpaintrt_export.conversion.peak", str(folder), name, str(inputs)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  our own
    if result.returncode:
        raise ExportError(
            f"the {name} does not run at {side * factor} x {side * factor}",
            received=" ".join(result.stderr.split("\n")[-5:]).strip() or f"exit status {result.returncode}",
            hint="check that this machine has enough memory for the checkpoint",
        )
    rows = profile["timestep"][0] if "timestep" in profile else 1
    return int(result.stdout) / rows
