"""The ONNX files that plans are compiled from: the bundle's own, or converted to half precision."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from inpaintrt.bundle import load_manifest
from inpaintrt_export.precision.conversions import find_conversion

if TYPE_CHECKING:
    from collections.abc import Iterator

    from inpaintrt.bundle import Build, Precision
    from inpaintrt_export.progress import Progress

__all__ = ["PlanSources", "open_sources"]


class PlanSources:
    """The networks of one bundle, those that have to be converted in a folder of their own.

    Args:
        folder: The bundle.
        scratch: Where converted networks are written to when they are asked for.
    """

    def __init__(self, folder: Path, scratch: Path) -> None:
        self._folder = folder
        self._scratch = scratch

    def path(self, plan: Build) -> Path:
        """The ONNX file that a plan is compiled from.

        Raises:
            ExportError: It cannot be converted.
        """
        manifest = load_manifest(self._folder)
        if plan.revision == 0:
            return self._folder / manifest.exported[plan.component].file
        # Only a build that converts waits for ONNX and PyTorch to be imported.
        from inpaintrt_export.precision.halves import HalfNetworks

        return HalfNetworks(self._folder, manifest, self._scratch).path(plan.component)


@contextlib.contextmanager
def open_sources(folder: Path, precision: Precision, progress: Progress) -> Iterator[PlanSources]:
    """The networks that a build in a precision compiles.

    Converted ones lie in a hidden folder of the bundle until the block ends.

    Raises:
        ParityError: Half precision changes what a component computes too much.
    """
    manifest = load_manifest(folder)
    if manifest.precision == precision:
        yield PlanSources(folder, folder)
        return
    with tempfile.TemporaryDirectory(prefix=".half-", dir=folder) as scratch:
        if not all(find_conversion(manifest, name) for name in manifest.exported):
            from inpaintrt_export.precision.check import record_conversions

            record_conversions(folder, Path(scratch), lambda stage: progress(stage, None))
        yield PlanSources(folder, Path(scratch))
