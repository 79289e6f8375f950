"""The ONNX files that plans are compiled from: the bundle's own, changed by LoRAs, or in half precision."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from inpaintrt.bundle import load_manifest
from inpaintrt.lora import changed_weights, read_initializers
from inpaintrt_export.precision.conversions import find_conversion

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from inpaintrt.bundle import Build, Manifest, Precision
    from inpaintrt.lora import Lora
    from inpaintrt_export.progress import Progress

__all__ = ["PlanSources", "open_sources"]


class PlanSources:
    """The networks of one bundle, those that have to be changed or converted in a folder of their own.

    Args:
        folder: The bundle.
        scratch: Where other networks are written to when they are asked for.
        loras: What changes the weights.
    """

    def __init__(self, folder: Path, scratch: Path, loras: Sequence[Lora] = ()) -> None:
        self._folder = folder
        self._scratch = scratch
        self._loras = loras

    def path(self, plan: Build) -> Path:
        """The ONNX file that a plan is compiled from.

        Raises:
            ExportError: It cannot be converted.
            LoraError: A LoRA cannot be applied to it.
        """
        manifest = load_manifest(self._folder)
        folder, halves = self._folder, self._scratch
        if plan.loras:
            folder, halves = self._scratch / "changed", self._scratch / "changed-halves"
            self._change(manifest, plan.component, folder)
        if plan.revision == 0:
            return folder / manifest.exported[plan.component].file
        # Only a build that converts waits for ONNX and PyTorch to be imported.
        from inpaintrt_export.precision.halves import HalfNetworks

        return HalfNetworks(folder, manifest, halves).path(plan.component)

    def _change(self, manifest: Manifest, component: str, target: Path) -> None:
        """Copy a component's exported network, and write the changed weights into the copy."""
        exported = manifest.exported[component]
        for file in exported.files:
            (target / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self._folder / file, target / file)
        weights = changed_weights(self._folder, manifest, {component: exported}, self._loras)
        initializers = read_initializers(target / exported.file)
        for name, value in weights[component].items():
            with initializers[name].file.open("r+b") as stream:
                stream.seek(initializers[name].offset)
                stream.write(value.tobytes())


@contextlib.contextmanager
def open_sources(
    folder: Path, precision: Precision, progress: Progress, loras: Sequence[Lora] = ()
) -> Iterator[PlanSources]:
    """The networks that a build in a precision compiles.

    Changed and converted ones lie in a hidden folder of the bundle until the block ends.

    Raises:
        ParityError: Half precision changes what a component computes too much.
    """
    manifest = load_manifest(folder)
    with tempfile.TemporaryDirectory(prefix=".half-", dir=folder) as scratch:
        converts = manifest.precision != precision
        if converts and not all(find_conversion(manifest, name) for name in manifest.exported):
            from inpaintrt_export.precision.check import record_conversions

            record_conversions(folder, Path(scratch), lambda stage: progress(stage, None))
        yield PlanSources(folder, Path(scratch), loras)
