"""What the comparing subcommands have in common: sources, folders, progress, and reports that grow."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
from rich.console import Console

from inpaintrt.bundle import Precision
from inpaintrt_bench.machine import describe_machine, measure_peak
from inpaintrt_bench.reporting import hand_out, make_report
from inpaintrt_bench.runners.catalogue import Device
from inpaintrt_bench.runners.launching import Launcher
from inpaintrt_bench.schema import Kind, Peak, Report, Row, Scalar, save_report
from inpaintrt_bench.sources import default_work_folder, find_sources
from inpaintrt_bench.workers.messages import Case

__all__ = ["Session", "SessionSettings", "open_session"]


@dataclass(frozen=True, kw_only=True)
class SessionSettings:
    """What is measured, and where.

    Attributes:
        bundle: A bundle's name or path, or None.
        checkpoint: A diffusers folder, `synthetic:NAME`, or None.
        device: "cpu" or "cuda".
        threads: Threads on the CPU; None for each library's own choice.
        timeout: Seconds that one order to a runner may take.
        work: Folder for what is made; None for one in the user's cache.
        output: The report's file, or None.
    """

    bundle: str | None
    checkpoint: str | None
    device: Device
    threads: int | None
    timeout: float
    work: Path | None
    output: Path | None


@dataclass(frozen=True, kw_only=True)
class Session:
    """A measurement that is under way.

    Attributes:
        launcher: Starts runners.
        peak: The machine's; None where nothing could measure it.
        kind: Of the report.
        settings: What all rows have in common.
        output: The report's file, or None.
        scratch: A folder that goes away with the session.
    """

    launcher: Launcher
    peak: Peak | None
    kind: Kind
    settings: Mapping[str, Scalar | list[Scalar]]
    output: Path | None
    scratch: Path

    @staticmethod
    def describe(case: Case) -> dict[str, Scalar | list[Scalar]]:
        """What a case asks for, as settings of a report."""
        return {
            "prompt": case.prompt,
            "width": case.width,
            "height": case.height,
            "steps": case.num_inference_steps,
            "guidance_scale": case.guidance_scale,
            "seed": case.seed,
            "batch": case.batch,
            "sampler": case.sampler,
        }

    def keep(self, rows: tuple[Row, ...], settings: Mapping[str, Scalar | list[Scalar]]) -> None:
        """Write what there is so far, marked as incomplete."""
        if self.output is not None:
            report = msgspec.structs.replace(self._report(rows, settings), complete=False)
            save_report(report, self.output)

    def finish(self, rows: tuple[Row, ...], settings: Mapping[str, Scalar | list[Scalar]]) -> None:
        """Print the report, and write it."""
        hand_out(self._report(rows, settings), self.output)

    def _report(self, rows: tuple[Row, ...], settings: Mapping[str, Scalar | list[Scalar]]) -> Report:
        report = make_report(self.kind, rows, {**self.settings, **settings})
        return msgspec.structs.replace(report, machine=describe_machine(self.peak))


@contextmanager
def open_session(kind: Kind, settings: SessionSettings) -> Iterator[Session]:
    """Find or make what is measured, and measure the machine's peak.

    Raises:
        InpaintError: The bundle or the checkpoint is missing, or cannot be made.
    """
    console = Console(stderr=True, highlight=False)

    def tell(text: str) -> None:
        console.print(text, markup=False, soft_wrap=True)

    work = settings.work or default_work_folder()
    work.mkdir(parents=True, exist_ok=True)
    precision: Precision = "fp16" if settings.device == "cuda" else "fp32"
    bundle, checkpoint = find_sources(
        settings.bundle, settings.checkpoint, work, precision=precision, progress=tell
    )
    with tempfile.TemporaryDirectory(prefix="inpaintrt-bench-") as scratch:
        launcher = Launcher(
            checkpoint=checkpoint,
            bundle=bundle,
            threads=settings.threads,
            work=work / "runners" / (bundle if checkpoint is None else checkpoint).name,
            timeout=settings.timeout,
            progress=tell,
        )
        yield Session(
            launcher=launcher,
            peak=_peak(settings.device, tell),
            kind=kind,
            settings={
                "bundle": bundle.name,
                "checkpoint": None if checkpoint is None else checkpoint.name,
                "device": settings.device,
                "threads": settings.threads,
            },
            output=settings.output,
            scratch=Path(scratch),
        )


def _peak(device: Device, tell: Callable[[str], None]) -> Peak | None:
    tell("measuring a matrix product")
    try:
        return measure_peak(device)
    except subprocess.CalledProcessError as error:
        tell(f"it cannot be measured: {error.stderr.strip().splitlines()[-1]}")
        return None
