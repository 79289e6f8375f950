"""`inpaintrt bench footprint`: time and memory of loading a bundle, and of each stage of a request."""

from __future__ import annotations

from collections import deque
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import click

from inpaintrt.bundle import load_manifest
from inpaintrt.cli.options import bundle_option
from inpaintrt.flow import Flow, MicroBatches
from inpaintrt.pipeline import InpaintPipeline
from inpaintrt.request import Options, make_request
from inpaintrt.store import find_bundle
from inpaintrt_bench.measurements.build import Cost, Phases
from inpaintrt_bench.measurements.mask import draw_image, draw_mask
from inpaintrt_bench.processes import run_alone
from inpaintrt_bench.report.files import hand_out, make_report, output_option
from inpaintrt_bench.report.markdown import (
    amount,
    duration,
    peak_memory,
    statistic_of,
    table,
    value_of,
    verdict,
)
from inpaintrt_bench.report.schema import Memory, Report, Row, Scalar, make_series
from inpaintrt_bench.runners.session import parse_size

__all__ = ["footprint", "footprint_table", "measure_footprint"]

_PROMPT = "a red balloon"
_SAMPLER = "ddim"  # evaluates the UNet once a step
_SHARE = 0.2


@click.command()
@bundle_option
@click.option(
    "--size",
    default="512x512",
    show_default=True,
    callback=parse_size,
    help="Width x height to run at.",
)
@click.option("--steps", type=click.IntRange(min=1), default=3, show_default=True, help="Of the sampler.")
@output_option
def footprint(bundle: str, size: tuple[int, int], steps: int, output: Path | None) -> None:
    """Time and memory of loading a bundle, and of each stage of its first request, on the CPU.

    The process is a fresh one, and each stage has a peak of its own.
    """
    manifest = load_manifest(find_bundle(bundle))
    settings: dict[str, Scalar | list[Scalar]] = {
        "bundle": bundle,
        "checkpoint": manifest.checkpoint.id,
        "precision": manifest.precision,
        "width": size[0],
        "height": size[1],
        "steps": steps,
    }
    try:
        rows = run_alone(measure_footprint, bundle, size, steps)
    except BrokenProcessPool:
        reason = "the process was killed, as happens when memory runs out"
        rows = [Row(name="load", status="failed", reason=reason)]
    hand_out(make_report("footprint", rows, settings), footprint_table, output)


def measure_footprint(bundle: str, size: tuple[int, int], steps: int) -> list[Row]:
    """Load a bundle, and inpaint one image with guidance, so that the UNet has two rows.

    The memory is that of this process: call it in a process of its own.

    Args:
        bundle: A name in the engine store, or a path.
        size: Width and height of the image, at which the networks run.
        steps: Of the sampler.

    Returns:
        A row for "load" (hashes verified), "encode" (prompts and images), "step" and "decode", with the
        seconds that it took, those of every step as the series "step", and the largest resident memory
        meanwhile.

    Raises:
        BundleError: There is no such bundle, or it is damaged.
        EngineError: A network cannot be loaded, or fails.
    """
    phases = Phases(lambda stage: stage)
    phases("load", None)
    with InpaintPipeline.from_bundle(bundle) as pipe:
        samples = _run(pipe, size, steps, phases)
    return [_row(name, cost, samples if name == "step" else ()) for name, cost in phases.costs.items()]


def _run(pipe: InpaintPipeline, size: tuple[int, int], steps: int, phases: Phases) -> tuple[float, ...]:
    """Inpaint an image; the seconds of each step."""
    options: Options = {
        "num_inference_steps": steps,
        "scheduler": _SAMPLER,
        "seed": 0,
        "compat": "diffusers",
        "width": size[0],
        "height": size[1],
    }
    image, mask = draw_image(size), draw_mask(size, _SHARE)
    phases("encode", None)
    flow = Flow(pipe.stages, make_request(_PROMPT, image, mask, options, pipe.stages.family))
    flow.prepare()
    deque(flow.encode(), maxlen=0)
    batches = MicroBatches(pipe.stages.step, flow, None)
    phases("step", None)
    for _ in range(batches.total):
        with flow.clock.step(batches.clock):
            batches.step()
    phases("decode", None)
    deque(flow.decode(), maxlen=0)
    flow.paste()
    phases.finish()
    return flow.clock.timings().steps


def _row(name: str, cost: Cost, samples: tuple[float, ...]) -> Row:
    return Row(
        name=name,
        values={"seconds": cost.seconds},
        series={"step": make_series(samples)} if samples else {},
        memory=Memory(peak_resident=cost.peak),
    )


def footprint_table(report: Report) -> str:
    """Every stage: its time, for steps the median of one, and the largest memory meanwhile."""
    rows = [
        (
            "one step" if row.series else row.name,
            duration(statistic_of(row, "step") if row.series else value_of(row, "seconds")),
            amount(peak_memory(row)),
            verdict(row) or "ok",
        )
        for row in report.rows
    ]
    return table(("", "time", "peak memory", "verdict"), rows)
