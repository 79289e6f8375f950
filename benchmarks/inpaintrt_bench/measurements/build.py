"""`inpaintrt bench build`: what an export and its plans cost, in seconds, memory and size of each part."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from inpaintrt.bundle import PRECISIONS, Precision, load_manifest
from inpaintrt.errors import EngineUnavailableError
from inpaintrt.store import find_bundle
from inpaintrt_bench.processes import run_alone
from inpaintrt_bench.report.files import hand_out, make_report, output_option
from inpaintrt_bench.report.markdown import (
    MISSING,
    amount,
    duration,
    table,
    value_of,
    verdict,
)
from inpaintrt_bench.report.schema import Memory, Report, Row
from inpaintrt_export.memory import forget_peak, peak_bytes

if TYPE_CHECKING:
    from inpaintrt.bundle import Build
    from inpaintrt_export.builds import BuildSettings

__all__ = ["Cost", "Phases", "build", "build_table", "measure_export", "measure_plans"]

_PARTS = {
    "text_encoder": ("text_encoder",),
    "text_encoder_2": ("text_encoder_2",),
    "vae": ("vae_encoder", "vae_decoder"),
    "unet": ("denoiser",),
}
_PART_OF = {name: part for part, names in _PARTS.items() for name in (part, *names)}
_REST = "rest"


@click.command()
@click.argument("source")
@click.option(
    "--precision",
    type=click.Choice(tuple(PRECISIONS)),
    default="fp16",
    show_default=True,
    help="To export in.",
)
@click.option("--plans/--no-plans", default=True, show_default=True, help="Build TensorRT-RTX plans as well.")
@click.option("--target", default="sm89", show_default=True, help="The GPU to build plans for.")
@click.option("--max-batch", default=1, show_default=True, help="Requests that share a step of the plans.")
@output_option
def build(
    source: str, precision: Precision, plans: bool, target: str, max_batch: int, output: Path | None
) -> None:
    """What it costs to export SOURCE and to build its plans: time, memory and size of each part.

    SOURCE is what `inpaintrt export` takes, for example synthetic:sd15-inpaint. The bundle is thrown away.
    """
    from inpaintrt_export.builds import BuildSettings

    with tempfile.TemporaryDirectory() as folder:
        bundle = Path(folder) / "bundle"
        click.echo(f"exporting {source}", err=True)
        rows = run_alone(measure_export, source, bundle, precision)
        if plans:
            click.echo(f"building plans for {target}", err=True)
            wanted = BuildSettings("tensorrt-rtx", (target,), max_batch=max_batch, precision=precision)
            rows += run_alone(measure_plans, str(bundle), wanted)
    settings = {"source": source, "precision": precision}
    hand_out(make_report("build", rows, settings), build_table, output)


@dataclass(frozen=True)
class Cost:
    """What a phase cost: its time, and the largest resident memory meanwhile in bytes."""

    seconds: float
    peak: int | None


@dataclass
class Phases:
    """Follows a build through its reports of progress, and notes what each phase cost.

    The memory is that of this process: build in a process of its own.

    Attributes:
        name_of: The phase that a reported stage belongs to.
        costs: Of each phase that is over, by its name.
    """

    name_of: Callable[[str], str]
    costs: dict[str, Cost] = field(default_factory=dict)
    _current: str | None = None
    _started: float = 0.0

    def __call__(self, stage: str, fraction: float | None) -> None:  # noqa: ARG002
        """Take note of a stage: `inpaintrt_export.progress.Progress`."""
        name = self.name_of(stage)
        if name == self._current:
            return
        self.finish()
        forget_peak()
        self._current, self._started = name, time.perf_counter()

    def finish(self) -> None:
        """End the phase that is going on."""
        if self._current is None:
            return
        seconds, peak = time.perf_counter() - self._started, peak_bytes()
        earlier = self.costs.get(self._current, Cost(0.0, peak))
        peaks = [value for value in (earlier.peak, peak) if value is not None]
        self.costs[self._current] = Cost(earlier.seconds + seconds, max(peaks, default=None))
        self._current = None


def measure_export(source: str, output: Path, precision: Precision) -> list[Row]:
    """Export a checkpoint, and say what each of its parts cost.

    Args:
        source: What `inpaintrt export` takes.
        output: Folder of the bundle; it is empty or does not exist.
        precision: "fp32" or "fp16".

    Returns:
        A row for `text_encoder`, `vae`, `unet` and the rest, with `seconds` (loading, tracing and comparing
        with PyTorch), `bytes` on the disk, and the largest resident memory meanwhile.

    Raises:
        ExportError: The checkpoint cannot be exported.
    """
    from inpaintrt_export.exporter import export_bundle

    phases = Phases(lambda stage: _PART_OF.get(_subject(stage), _REST))
    export_bundle(source, output, precision=precision, progress=phases)
    phases.finish()
    folders = {part: [output / name for name in names] for part, names in _PARTS.items()}
    sizes = {part: sum(map(_folder_bytes, paths)) for part, paths in folders.items()}
    sizes[_REST] = _folder_bytes(output) - sum(sizes.values())
    return [_row(part, "export", cost, sizes[part]) for part, cost in phases.costs.items()]


def measure_plans(bundle: str, settings: BuildSettings) -> list[Row]:
    """Build the plans of a bundle that are not there yet, and say what each cost.

    Args:
        bundle: A name in the engine store, or a path; the plans are added to it.
        settings: What the plans are for.

    Returns:
        A row for each plan that was built, with `seconds`, `bytes`, `profiles`, and the largest resident
        memory meanwhile; or a failed row where the library cannot build here.

    Raises:
        PlanBuildError: The library cannot compile a component.
    """
    from inpaintrt_export.builds import build_plans

    folder = find_bundle(bundle)
    components = load_manifest(folder).exported
    phases = Phases(lambda stage: name if (name := _subject(stage)) in components else _REST)
    try:
        report = build_plans(bundle, settings, progress=phases)
    except EngineUnavailableError as error:
        return [Row(name="plans", status="failed", reason=error.what, case={"made": settings.backend})]
    phases.finish()
    return [_plan_row(plan, phases.costs, folder) for plan in report.built]


def _plan_row(plan: Build, costs: Mapping[str, Cost], folder: Path) -> Row:
    row = _row(plan.component, str(plan.backend), costs[plan.component], (folder / plan.file).stat().st_size)
    return msgspec.structs.replace(
        row,
        case={**row.case, "targets": " ".join(plan.targets)},
        values={**row.values, "profiles": len(plan.profiles)},
        versions={str(plan.backend): plan.library},
    )


def _subject(stage: str) -> str:
    return stage.partition(":")[0]


def _folder_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _row(name: str, made: str, cost: Cost, size: int) -> Row:
    return Row(
        name=name,
        case={"made": made},
        values={"seconds": cost.seconds, "bytes": size},
        memory=Memory(peak_resident=cost.peak),
    )


def build_table(report: Report) -> str:
    """Everything that was made: its time, the memory that this took, and its size."""
    rows = [
        (
            row.name.replace("_", " "),
            str(row.case.get("made", MISSING)),
            duration(value_of(row, "seconds")),
            amount(None if row.memory is None else row.memory.peak_resident),
            amount(value_of(row, "bytes")),
            verdict(row) or "ok",
        )
        for row in report.rows
    ]
    return table(("part", "made by", "time", "peak memory", "size", "verdict"), rows, texts=2)
