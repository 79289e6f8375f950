"""Everything that is built of SDXL's exports, on whatever machine the tests run on."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from bundles import SDXL_COMPONENTS, builds_for, conversions
from inpaintrt import InpaintPipeline
from inpaintrt.backends.tensorrt_library import PlanLibrary
from inpaintrt.bundle import PRECISIONS, choose_builds, load_manifest, save_manifest, verify_files
from inpaintrt_export.builds import build_plans
from inpaintrt_export.builds.variants import build_variants
from plan_fixtures import TINY
from runtime.image_tools import disc_mask, gradient

LEAST_PSNR = 40  # dB
IMAGE = gradient(64, 64)
# Sizes beyond 1,000 show whether their sinusoids are computed in float32.
TASKS: list[dict[str, Any]] = [
    {"prompt_2": "a blue house"},
    {"image": IMAGE, "original_size": (1023, 4097), "strength": 0.8},
    {"image": IMAGE, "mask_image": disc_mask(64, 64), "negative_prompt": "a tree"},
]


def _paint(bundle: Path) -> list[NDArray[np.float64]]:
    options: dict[str, Any] = {"num_inference_steps": 3, "seed": 2}
    with InpaintPipeline.from_bundle(bundle) as pipe:
        return [np.asarray(pipe("a red balloon", **task, **options).images[0]) / 255 for task in TASKS]


def _assert_alike(painted: list[NDArray[np.float64]], expected: list[NDArray[np.float64]]) -> None:
    """Much the same images, by other numbers."""
    for mine, theirs in zip(painted, expected, strict=True):
        psnr = -10 * np.log10(np.square(mine - theirs).mean())
        assert LEAST_PSNR <= psnr < np.inf


def _inspect(bundle: Path) -> str:
    command: list[str | Path] = [Path(sys.executable).with_name("inpaintrt"), "inspect", bundle]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="module")
def expected(tiny_sdxl_bundle: Path) -> list[NDArray[np.float64]]:
    return _paint(tiny_sdxl_bundle)


@pytest.fixture(scope="module")
def varied(tiny_sdxl_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An fp32 bundle with variants in half precision."""
    bundle = Path(shutil.copytree(tiny_sdxl_bundle, tmp_path_factory.mktemp("bundles") / "varied"))
    report = build_variants(bundle)
    assert [variant.component for variant in report.built] == list(SDXL_COMPONENTS)
    return bundle


def test_variants_for_gpus_are_made_of_both_text_encoders(varied: Path) -> None:
    manifest = load_manifest(varied)
    verify_files(manifest, varied)
    variants = {variant.component: variant for variant in builds_for(manifest, "onnxruntime-cuda")}
    assert set(variants) == set(SDXL_COMPONENTS)
    assert {variant.precision for variant in variants.values()} == {"fp16"}
    # Two attentions in each of two blocks on the way down, two in the middle, and four on the way up.
    assert variants["denoiser"].fused == {"MultiHeadAttention": 16}
    dtypes = {name: spec.dtype for name, spec in variants["denoiser"].inputs.items()}
    assert (dtypes["context"], dtypes["text_embeds"], dtypes["time_ids"]) == ("float16", "float32", "float32")
    outputs = {name: spec.dtype for name, spec in variants["text_encoder_2"].outputs.items()}
    assert outputs == {"last_hidden_state": "float16", "text_embeds": "float16"}
    checked = conversions(manifest)
    assert [conversion.component for conversion in checked] == list(SDXL_COMPONENTS)
    assert all(conversion.accepted for conversion in checked)


def test_variants_for_gpus_paint_what_the_export_paints(
    varied: Path, expected: list[NDArray[np.float64]], tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(varied, tmp_path / "bundle"))
    manifest = load_manifest(copy)
    exported = tuple(
        msgspec.structs.replace(variant, backend=None, network_sha256=None)
        for variant in choose_builds(manifest, "onnxruntime-cuda").values()
    )
    save_manifest(msgspec.structs.replace(manifest, builds=exported), copy)
    _assert_alike(_paint(copy), expected)


def test_inspect_shows_both_text_encoders_and_what_the_denoiser_takes(varied: Path) -> None:
    shown = _inspect(varied)
    for words in (
        "sdxl",
        "text_encoder_2",
        "text_embeds",
        "time_ids",
        "MultiHeadAttention",
        "onnxruntime-cuda",
    ):
        assert words in shown, words


def test_a_half_bundle_paints_what_the_float32_bundle_paints(
    tiny_sdxl_half_bundle: Path, expected: list[NDArray[np.float64]]
) -> None:
    manifest = load_manifest(tiny_sdxl_half_bundle)
    verify_files(manifest, tiny_sdxl_half_bundle)
    exported = manifest.exported
    assert tuple(exported) == SDXL_COMPONENTS
    for name in ("text_encoder", "text_encoder_2", "denoiser"):
        assert exported[name].precision == "fp16"
    for build in exported.values():
        assert all(parity.relative_error <= PRECISIONS["fp16"].tolerance for parity in build.parity)
    halves = {name for name, spec in exported["denoiser"].inputs.items() if spec.dtype == "float16"}
    assert halves == {"context", "text_embeds"}
    _assert_alike(_paint(tiny_sdxl_half_bundle), expected)


def test_plans_are_built_of_all_components(
    tiny_sdxl_inpainting_bundle: Path, rtx: PlanLibrary, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(tiny_sdxl_inpainting_bundle, tmp_path / "bundle"))
    report = build_plans(copy, TINY)
    manifest = load_manifest(copy)
    verify_files(manifest, copy)
    plans = {plan.component: plan for plan in report.built}
    assert tuple(plans) == SDXL_COMPONENTS
    assert {plan.precision for plan in plans.values()} == {"fp16"}
    assert {plan.library for plan in plans.values()} == {rtx.version}
    denoiser = plans["denoiser"]
    assert [profile["time_ids"] for profile in denoiser.profiles] == [(1, 6), (2, 6)]
    assert [profile["text_embeds"] for profile in denoiser.profiles] == [(1, 20), (2, 20)]
    assert [profile["condition"] for profile in denoiser.profiles] == [(1, 5, 8, 8)] * 2
    assert (denoiser.inputs["context"].dtype, denoiser.inputs["time_ids"].dtype) == ("float16", "float32")
    for plan in plans.values():
        assert (copy / plan.file).stat().st_size > 10_000
    assert build_plans(copy, TINY).built == ()
    assert "text_encoder_2" in _inspect(copy)
