"""The real architecture with random weights, in half precision on the GPU and in full on the CPU."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from gpu.checks import check_likeness, check_timings, paint, peak_memory, remembered
from gpu.devices import used_memory
from inpaintrt.demo import load_scene
from inpaintrt.output import Timings
from inpaintrt.pipeline import InpaintPipeline

pytestmark = pytest.mark.gpu

Record = Callable[[str, object], None]

MEBIBYTE = 2**20

CASES: dict[str, dict[str, Any]] = {
    "ddim": {"scheduler": "ddim"},
    "euler_a at strength 0.7": {"scheduler": "euler_a", "strength": 0.7, "negative_prompt": "a tree"},
}


def _on_the_cpu(bundle: Path, options: dict[str, Any]) -> Any:
    with InpaintPipeline.from_bundle(bundle) as cpu:  # a step takes seconds
        return paint(cpu, **options)


@pytest.mark.parametrize("case", CASES)
def test_the_full_size_gives_the_images_of_the_cpu(
    backend: str, full_size_bundle: Path, case: str, record_property: Record
) -> None:
    kept = full_size_bundle.with_name(f"{full_size_bundle.name}-{case.replace(' ', '-')}.npy")
    expected = remembered(kept, partial(_on_the_cpu, full_size_bundle, CASES[case]))
    with InpaintPipeline.from_bundle(full_size_bundle, backend=backend) as pipe:
        record_property("psnr_db", check_likeness(paint(pipe, **CASES[case]), expected))


def test_the_full_size_is_timed(backend: str, full_size_bundle: Path, record_property: Record) -> None:
    with InpaintPipeline.from_bundle(full_size_bundle, backend=backend) as pipe:
        paint(pipe)

        record_property("seconds", check_timings(partial(_time, pipe)))
        record_property("peak_mebibytes", peak_memory(pipe, partial(used_memory, pipe)) / MEBIBYTE)


def _time(pipe: InpaintPipeline) -> Timings:
    scene = load_scene()
    prompt = scene.script.prompts[0]
    return pipe(prompt, scene.image, scene.mask, height=512, width=512, seed=0).timings
