"""The floor: how many operations a run takes, and how near to the machine's peak they are done."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from inpaintrt.bundle import Manifest, load_manifest
from inpaintrt.samplers import compile_table
from inpaintrt_bench.report.schema import Peak, Row, Work
from inpaintrt_bench.workers.messages import Case

__all__ = ["ComponentWork", "CountedWork", "count_work", "try_count_work"]

_STAGE = {
    "text_encoder": "text_encode",
    "vae_encoder": "image_encode",
    "denoiser": "denoise",
    "vae_decoder": "image_decode",
}


@dataclass(frozen=True)
class ComponentWork:
    """Operations of one run of a component, and how often it runs for one case."""

    operations: int
    runs: int


def count_work(bundle: Path, case: Case) -> dict[str, ComponentWork]:
    """Count the operations that a case takes, whichever library does them.

    The text encoder runs for the prompt and, with guidance, for the empty one; the VAE's encoder for the
    masked image and, with strength below 1, for the image; the denoiser for each row of the sampler's
    table, with guidance on two rows for each image; the VAE's decoder for each image.

    Args:
        bundle: The bundle's folder.
        case: What is painted.

    Returns:
        The work of each component, by name.
    """
    manifest = load_manifest(bundle)
    guided = 2 if case.guidance_scale > 1 else 1
    table = compile_table(manifest.scheduler, case.sampler, case.num_inference_steps, strength=case.strength)
    runs = {
        "text_encoder": guided,
        "vae_encoder": 2 if case.strength < 1 else 1,
        "denoiser": table.rows,
        "vae_decoder": case.batch,
    }
    axes = _axes(manifest, case, guided)
    return {
        name: ComponentWork(_operations(bundle, manifest, name, axes[name]), count)
        for name, count in runs.items()
    }


def _axes(manifest: Manifest, case: Case, guided: int) -> dict[str, dict[str, int]]:
    factor = manifest.architecture.vae_scale_factor
    pixels = {"height": case.height, "width": case.width}
    latents = {name: size // factor for name, size in pixels.items()}
    tokens = {"tokens": manifest.window}
    rows = {"slots": case.batch, "rows": guided * case.batch, "batch": guided * case.batch}
    return {
        "text_encoder": {"batch": 1, **tokens},
        "vae_encoder": {"batch": 1, **pixels},
        "denoiser": {**rows, **tokens, **latents},
        "vae_decoder": {"batch": 1, **latents},
    }


def _operations(bundle: Path, manifest: Manifest, name: str, axes: Mapping[str, int]) -> int:
    from inpaintrt_bench.runners.flops import count_operations  # needs the extra `export`

    exported = manifest.exported[name]
    shapes = {
        tensor: tuple(axes[axis] if isinstance(axis, str) else axis for axis in spec.shape)
        for tensor, spec in exported.inputs.items()
    }
    return count_operations(bundle / exported.file, shapes)


@dataclass(frozen=True)
class CountedWork:
    """The work of one case, counted before anything is measured.

    Attributes:
        components: By name; empty where nothing could be counted.
        notes: Why nothing could be counted, for the report.
    """

    components: Mapping[str, ComponentWork]
    notes: tuple[str, ...] = ()

    def add_to(self, rows: Sequence[Row], peak: Peak | None) -> tuple[Row, ...]:
        """Rows with their `work`: operations, the median time of one run, and the share of the peak.

        Args:
            rows: What was measured for the case.
            peak: The machine's; None where it is unknown.
        """
        if not self.components:
            return tuple(rows)
        return tuple(
            msgspec.structs.replace(row, work=_work_of(row, self.components, peak))
            if "total" in row.series
            else row
            for row in rows
        )


def try_count_work(bundle: Path | None, case: Case, progress: Callable[[str], None]) -> CountedWork:
    """Count the operations of a case; a failure costs no more than the columns that are made of them.

    Args:
        bundle: Whose networks are counted; without one there is nothing to count.
        case: What is painted.
        progress: Called with the reason of a failure.
    """
    if bundle is None:
        return CountedWork({})
    try:
        return CountedWork(count_work(bundle, case))
    except Exception as error:  # noqa: BLE001  a missing package, or whatever ONNX's shape inference raises
        note = f"Operations are not counted: {type(error).__name__}: {error}"
        progress(note)
        return CountedWork({}, (note,))


def _work_of(row: Row, work: Mapping[str, ComponentWork], peak: Peak | None) -> dict[str, Work]:
    found = {name: _component(row, name, part, peak) for name, part in work.items()}
    whole = ComponentWork(sum(part.operations * part.runs for part in work.values()), 1)
    return {**found, "total": _timed(whole, row.series["total"].statistics.median, peak)}


def _component(row: Row, name: str, part: ComponentWork, peak: Peak | None) -> Work:
    if name == "denoiser" and "step" in row.series:
        return _timed(part, row.series["step"].statistics.median, peak)
    stage = row.stages.get(_STAGE[name])
    return _timed(part, None if stage is None else stage.statistics.median / part.runs, peak)


def _timed(part: ComponentWork, seconds: float | None, peak: Peak | None) -> Work:
    share = None
    if seconds and peak is not None:
        share = part.operations / seconds / peak.operations_per_second
    return Work(operations=part.operations, runs=part.runs, seconds=seconds, share_of_peak=share)
