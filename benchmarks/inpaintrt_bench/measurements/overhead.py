"""`inpaintrt bench overhead`: the cost of the runtime itself."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import click

from inpaintrt.cli.options import bundle_option
from inpaintrt.demo import load_scene
from inpaintrt.loading import LoadedBundle, load_bundle
from inpaintrt.pipeline import InpaintPipeline
from inpaintrt.samplers import compile_table, sampler_names
from inpaintrt_bench.processes import KEEP_BYTE_CODE
from inpaintrt_bench.report.files import hand_out, make_report, output_option
from inpaintrt_bench.report.markdown import (
    duration,
    percent,
    statistic_of,
    table,
)
from inpaintrt_bench.report.schema import Report, Row, make_series
from inpaintrt_bench.workers.ours import TimedEngine

__all__ = ["around_engines", "compile_tables", "import_time", "overhead", "overhead_table"]

_STEPS = 20
_SLOWEST = 50
_BASE = "numpy, PIL.Image, onnxruntime"


@click.command()
@bundle_option
@click.option("--repeats", type=click.IntRange(min=1), default=9, show_default=True, help="Counted runs.")
@output_option
def overhead(bundle: str, repeats: int, output: Path | None) -> None:
    """What the runtime itself costs: around the engines, to compile tables, and to import."""
    rows = [around_engines(bundle, repeats), compile_tables(repeats), import_time(repeats)]
    hand_out(make_report("overhead", rows, {"bundle": bundle}), overhead_table, output)


def around_engines(bundle: str, repeats: int) -> Row:
    """What a run of 20 steps spends outside `Engine.run`.

    Args:
        bundle: A name in the engine store, or a path.
        repeats: Counted runs, after one that is not.

    Returns:
        A row with the series "share" (of the run, from 0 to 1) and "total".
    """
    loaded = load_bundle(bundle)
    engines = {name: TimedEngine(engine) for name, engine in loaded.engines.items()}
    pipe = InpaintPipeline(LoadedBundle(loaded.manifest, engines, loaded.tokenizers))
    scene = load_scene()
    shares, totals = [], []
    for run in range(repeats + 1):
        for engine in engines.values():
            engine.reset()
        started = time.perf_counter()
        # A new prompt each time, so that the text encoder runs as it does for a new request.
        pipe(f"a red balloon {run}", scene.image, scene.mask, num_inference_steps=_STEPS, seed=run)
        total = time.perf_counter() - started
        shares.append(1 - sum(engine.seconds for engine in engines.values()) / total)
        totals.append(total)
    return Row(
        name=f"share of a run of {_STEPS} steps that is spent outside the engines",
        case={"steps": _STEPS},
        series={
            "share": make_series(shares[1:], "ratio", warm_up=1),
            "total": make_series(totals[1:], warm_up=1),
        },
    )


def compile_tables(repeats: int) -> Row:
    """What compiling a table of 50 steps takes, for the sampler whose median is the largest of all.

    Args:
        repeats: Counted runs of each sampler, after one that is not.

    Returns:
        A row with the series "total"; its case names the sampler.
    """
    config = {
        "_class_name": "DDIMScheduler",
        "num_train_timesteps": 1000,
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "steps_offset": 1,
        "clip_sample": False,
        "set_alpha_to_one": False,
    }
    series = {
        name: make_series(_times(partial(compile_table, config, name, _SLOWEST), repeats), warm_up=1)
        for name in sampler_names()
    }
    slowest = max(series, key=lambda name: series[name].statistics.median)
    return Row(
        name=f"compiling a sampler's table of {_SLOWEST} steps, the slowest of all",
        case={"steps": _SLOWEST, "sampler": slowest},
        series={"total": series[slowest]},
    )


def _times(call: Callable[[], object], repeats: int) -> list[float]:
    times = []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return times[1:]


def import_time(repeats: int) -> Row:
    """What `import inpaintrt` adds to importing what it needs, in fresh interpreters in turns.

    Args:
        repeats: Counted pairs, after one that is not.

    Returns:
        A row with the series "total" (what is added) and "import" (what it is added to).
    """
    base, ours = [], []
    for _ in range(repeats + 1):
        base.append(_run_import(_BASE))
        ours.append(_run_import(f"{_BASE}, inpaintrt"))
    added = [own - other for own, other in zip(ours, base, strict=True)]
    return Row(
        name="what `import inpaintrt` adds to importing NumPy, Pillow and ONNX Runtime",
        series={"total": make_series(added[1:], warm_up=1), "import": make_series(base[1:], warm_up=1)},
    )


def _run_import(modules: str) -> float:
    code = f"import time; s = time.perf_counter(); import {modules}; print(time.perf_counter() - s)"
    result = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, **KEEP_BYTE_CODE},
    )
    return float(result.stdout)


def overhead_table(report: Report) -> str:
    """Each cost of the runtime itself: the median share of a run, or the median time."""
    return table(("the runtime's own cost", "median"), [(row.name, _cost(row)) for row in report.rows])


def _cost(row: Row) -> str:
    share = statistic_of(row, "share")
    return duration(statistic_of(row, "total")) if share is None else percent(share, 1)
