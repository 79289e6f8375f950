"""ONNX Runtime's CUDA provider with fused nodes, and with the bundle's own networks."""

import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from gpu.checks import check_likeness, check_timings, paint
from inpaintrt.demo import load_scene
from inpaintrt.doctor import examine
from inpaintrt.output import Timings
from inpaintrt.pipeline import InpaintPipeline
from inpaintrt.store import find_bundle
from inpaintrt_export.builds.variants import build_variants

pytestmark = pytest.mark.gpu

Record = Callable[[str, object], None]


@pytest.fixture(scope="module")
def source() -> Path:
    """The bundle that the tests run on, where the provider can start."""
    health = next(found for found in examine().backends if found.name == "onnxruntime-cuda")
    if not health.usable:
        pytest.skip(health.detail)
    return find_bundle(os.environ.get("INPAINTRT_GPU_BUNDLE", "demo"))


@pytest.mark.parametrize("form", ["own networks", "fused attention", "fused attention and norms"])
def test_every_form_paints_the_same_and_is_timed(
    source: Path, tmp_path: Path, form: str, record_property: Record
) -> None:
    bundle = Path(shutil.copytree(source, tmp_path / "bundle"))
    if form != "own networks":
        build_variants(bundle, fused_norms="norms" in form)
    with (
        InpaintPipeline.from_bundle(bundle) as cpu,
        InpaintPipeline.from_bundle(bundle, backend="onnxruntime-cuda") as pipe,
    ):
        record_property("psnr_db", check_likeness(paint(pipe), paint(cpu)))
        record_property("seconds", check_timings(partial(_time, pipe)))


def _time(pipe: InpaintPipeline) -> Timings:
    scene = load_scene()
    return pipe(scene.script.prompts[0], scene.image, scene.mask, seed=0).timings
