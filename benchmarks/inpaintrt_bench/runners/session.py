"""What the measurements that start runners share: options, progress, and reports that grow."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec
from rich.console import Console

from inpaintrt.bundle import Precision
from inpaintrt_bench.report.files import hand_out, make_report, output_option, save_report
from inpaintrt_bench.report.machine import describe_machine, measure_peak
from inpaintrt_bench.report.markdown import Table
from inpaintrt_bench.report.schema import Kind, Peak, Report, Row, Scalar
from inpaintrt_bench.runners.catalogue import Device
from inpaintrt_bench.runners.launching import Launcher
from inpaintrt_bench.runners.sources import default_work_folder, find_sources
from inpaintrt_bench.workers.messages import Case

__all__ = ["Session", "SessionSettings", "case_options", "open_session", "parse_size", "session_options"]

_Command = TypeVar("_Command", bound=Callable[..., Any])
_Settings = Mapping[str, Scalar | list[Scalar]]
_SMALLEST = 64
_SESSION = (
    click.option(
        "--bundle", "-b", help="A bundle's name or path. Default: exported from --checkpoint, or the demo."
    ),
    click.option(
        "--checkpoint",
        help="The diffusers folder that the bundle was exported from, or synthetic:sd15-inpaint. "
        "Default: the demo's, where it is at hand.",
    ),
    click.option(
        "--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True, help="Where to run."
    ),
    click.option(
        "--threads",
        type=click.IntRange(min=1),
        help="Threads on the CPU. Default: each library's own choice.",
    ),
    click.option(
        "--timeout",
        type=click.FloatRange(min=1),
        default=1800,
        show_default=True,
        help="Seconds that one load or one run may take.",
    ),
    click.option(
        "--work",
        type=click.Path(path_type=Path, file_okay=False),
        help="Folder for synthetic checkpoints, exports and logs. Default: in the user's cache.",
    ),
    output_option,
)
_CASE = (
    click.option("--prompt", help="What to paint. Default: the demo's."),
    click.option(
        "--guidance", type=float, default=7.5, show_default=True, help="How strongly the prompt is followed."
    ),
    click.option("--seed", type=int, default=0, show_default=True, help="Of the noise."),
)


def session_options(command: _Command) -> _Command:
    """Add what is measured, and where."""
    return _add(command, _SESSION)


def case_options(command: _Command) -> _Command:
    """Add what is painted, but for size, steps, batch and sampler."""
    return _add(command, _CASE)


def _add(command: _Command, options: tuple[Callable[[Any], Any], ...]) -> _Command:
    for option in reversed(options):
        command = option(command)
    return command


def parse_size(context: click.Context, parameter: click.Parameter, value: Any) -> Any:  # noqa: ANN401, ARG001
    """Width and height of "512x512"; of each, where there are several; None where nothing is given."""
    if value is None:
        return None
    if isinstance(value, tuple):
        return tuple(_size(text) for text in value)
    return _size(value)


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    if not (width.isdecimal() and height.isdecimal() and min(int(width), int(height)) >= _SMALLEST):
        raise click.BadParameter(f"{text!r} is not WIDTHxHEIGHT, such as 512x512, each from {_SMALLEST}")
    return int(width), int(height)


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
        table: Writes the report as Markdown.
        settings: What all rows have in common.
        output: The report's file, or None.
        scratch: A folder that goes away with the session.
    """

    launcher: Launcher
    peak: Peak | None
    kind: Kind
    table: Table
    settings: _Settings
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

    def keep(self, rows: tuple[Row, ...], settings: _Settings, notes: Sequence[str] = ()) -> None:
        """Write what there is so far, marked as incomplete."""
        if self.output is not None:
            report = msgspec.structs.replace(self._report(rows, settings, notes), complete=False)
            save_report(report, self.output)

    def finish(self, rows: tuple[Row, ...], settings: _Settings, notes: Sequence[str] = ()) -> None:
        """Print the report, and write it."""
        hand_out(self._report(rows, settings, notes), self.table, self.output)

    def _report(self, rows: tuple[Row, ...], settings: _Settings, notes: Sequence[str]) -> Report:
        report = make_report(self.kind, rows, {**self.settings, **settings}, notes=notes)
        return msgspec.structs.replace(report, machine=describe_machine(self.peak))


@contextmanager
def open_session(kind: Kind, table: Table, settings: SessionSettings) -> Iterator[Session]:
    """Find or make what is measured, and measure the machine's peak.

    Raises:
        InpaintError: The bundle or the checkpoint is missing, or cannot be made.
    """
    console = Console(stderr=True, highlight=False)

    def progress(text: str) -> None:
        console.print(text, markup=False, soft_wrap=True)

    work = settings.work or default_work_folder()
    work.mkdir(parents=True, exist_ok=True)
    precision: Precision = "fp16" if settings.device == "cuda" else "fp32"
    bundle, checkpoint = find_sources(
        settings.bundle, settings.checkpoint, work, precision=precision, progress=progress
    )
    with tempfile.TemporaryDirectory(prefix="inpaintrt-bench-") as scratch:
        launcher = Launcher(
            checkpoint=checkpoint,
            bundle=bundle,
            threads=settings.threads,
            work=work / "runners" / (bundle if checkpoint is None else checkpoint).name,
            timeout=settings.timeout,
            progress=progress,
        )
        yield Session(
            launcher=launcher,
            peak=_peak(settings.device, progress),
            kind=kind,
            table=table,
            settings={
                "bundle": bundle.name,
                "checkpoint": None if checkpoint is None else checkpoint.name,
                "device": settings.device,
                "threads": settings.threads,
            },
            output=settings.output,
            scratch=Path(scratch),
        )


def _peak(device: Device, progress: Callable[[str], None]) -> Peak | None:
    progress("measuring a matrix product")
    try:
        return measure_peak(device)
    except subprocess.CalledProcessError as error:
        progress(f"it cannot be measured: {error.stderr.strip().splitlines()[-1]}")
        return None
