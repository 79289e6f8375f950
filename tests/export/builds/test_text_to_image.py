"""Everything that is built of a text-to-image checkpoint's export, on whatever machine the tests run on."""

import shutil
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from bundles import SD_COMPONENTS, builds_for, conversions
from inpaintrt import InpaintPipeline
from inpaintrt.backends.tensorrt_library import PlanLibrary
from inpaintrt.bundle import choose_builds, load_manifest, save_manifest, verify_files
from inpaintrt_export.builds import build_plans
from inpaintrt_export.builds.variants import build_variants
from plan_fixtures import TINY
from runtime.image_tools import disc_mask, gradient

LEAST_PSNR = 40  # dB
IMAGE = gradient(64, 64)
TASKS: list[dict[str, Any]] = [{}, {"image": IMAGE}, {"image": IMAGE, "mask_image": disc_mask(64, 64)}]


@pytest.fixture
def copy(tiny_text_to_image_bundle: Path, tmp_path: Path) -> Path:
    """The fp32 bundle, which a test may change."""
    return Path(shutil.copytree(tiny_text_to_image_bundle, tmp_path / "bundle"))


def test_plans_are_built_in_half_precision(copy: Path, rtx: PlanLibrary) -> None:
    report = build_plans(copy, TINY)
    manifest = load_manifest(copy)
    verify_files(manifest, copy)
    assert [plan.component for plan in report.built] == list(SD_COMPONENTS)
    assert {plan.precision for plan in report.built} == {"fp16"}
    checked = conversions(manifest)
    assert [conversion.component for conversion in checked] == list(SD_COMPONENTS)
    assert all(conversion.accepted for conversion in checked)
    denoiser = next(plan for plan in report.built if plan.component == "denoiser")
    assert "condition" not in denoiser.inputs
    assert denoiser.inputs["context"].dtype == "float16"
    assert [profile["image_latents"] for profile in denoiser.profiles] == [(1, 4, 8, 8)] * 2
    assert (copy / denoiser.file).stat().st_size > 10_000
    assert denoiser.library == rtx.version


def test_variants_for_gpus_paint_what_the_export_paints(copy: Path) -> None:
    expected = _paint(copy)
    build_variants(copy)
    manifest = load_manifest(copy)
    verify_files(manifest, copy)
    variants = builds_for(manifest, "onnxruntime-cuda")
    assert {variant.component for variant in variants} == set(SD_COMPONENTS)
    denoiser = next(variant for variant in variants if variant.component == "denoiser")
    assert (denoiser.precision, denoiser.fused) == ("fp16", {"MultiHeadAttention": 8})
    exported = tuple(
        msgspec.structs.replace(variant, backend=None, network_sha256=None)
        for variant in choose_builds(manifest, "onnxruntime-cuda").values()
    )
    save_manifest(msgspec.structs.replace(manifest, builds=exported), copy)
    for mine, theirs in zip(_paint(copy), expected, strict=True):
        psnr = -10 * np.log10(np.square(mine - theirs).mean())
        assert LEAST_PSNR <= psnr < np.inf


def _paint(bundle: Path) -> list[NDArray[np.float64]]:
    options: dict[str, Any] = {"num_inference_steps": 3, "seed": 2}
    with InpaintPipeline.from_bundle(bundle) as pipe:
        return [np.asarray(pipe("a red balloon", **task, **options).images[0]) / 255 for task in TASKS]
