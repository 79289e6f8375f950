"""The cost of the runtime itself."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from inpaintrt.demo import load_scene
from inpaintrt.loading import LoadedBundle, load_bundle
from inpaintrt.pipeline import InpaintPipeline
from inpaintrt.samplers import compile_table, sampler_names
from inpaintrt_bench.workers.ours import TimedEngine

__all__ = ["around_engines", "compile_tables", "import_time"]

_STEPS = 20
_SLOWEST = 50
_BASE = "numpy, PIL.Image, onnxruntime"


def around_engines(bundle: str, repeats: int) -> dict[str, float]:
    """The share of a 20-step run spent outside `Engine.run`: medians over the runs, after one warm-up."""
    loaded = load_bundle(bundle)
    engines = {name: TimedEngine(engine) for name, engine in loaded.engines.items()}
    pipe = InpaintPipeline(LoadedBundle(loaded.manifest, engines, loaded.tokenizer))
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
    return {
        "runs": repeats,
        "steps": _STEPS,
        "share_outside_engines": statistics.median(shares[1:]),
        "seconds": statistics.median(totals[1:]),
    }


def compile_tables(repeats: int) -> dict[str, Any]:
    """Milliseconds to compile a table of 50 steps: the median of each sampler, the worst of all."""
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
    medians = {
        name: _median_time(partial(compile_table, config, name, _SLOWEST), repeats)
        for name in sampler_names()
    }
    slowest = max(medians, key=lambda name: medians[name])
    return {"steps": _SLOWEST, "slowest": slowest, "milliseconds": 1000 * medians[slowest]}


def _median_time(call: Callable[[], object], repeats: int) -> float:
    times = []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return statistics.median(times[1:])


def import_time(repeats: int) -> dict[str, float]:
    """Seconds that `import inpaintrt` adds to importing what it needs, in fresh interpreters in turns."""
    base, ours = [], []
    for _ in range(repeats + 1):
        base.append(_run_import(_BASE))
        ours.append(_run_import(f"{_BASE}, inpaintrt"))
    return {
        "base_seconds": statistics.median(base[1:]),
        "added_seconds": statistics.median(
            [own - other for own, other in zip(ours[1:], base[1:], strict=True)]
        ),
    }


def _run_import(modules: str) -> float:
    code = f"import time; s = time.perf_counter(); import {modules}; print(time.perf_counter() - s)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(result.stdout)
