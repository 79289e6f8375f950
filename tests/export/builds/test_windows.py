"""TensorRT-RTX builds plans for prompts of several windows."""

import dataclasses
import shutil
from pathlib import Path

from inpaintrt.bundle import load_manifest
from inpaintrt_export.builds import build_plans
from plan_fixtures import TINY


def test_windows_are_added_to_the_denoiser_alone(planned_bundle: Path, tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(planned_bundle, tmp_path / "bundle"))
    report = build_plans(bundle, dataclasses.replace(TINY, prompt_windows=2))
    (denoiser,) = report.built
    assert denoiser in load_manifest(bundle).builds
    assert {plan.component for plan in report.reused} == {"text_encoder", "vae_encoder", "vae_decoder"}
    contexts = [profile["context"][:2] for profile in denoiser.profiles]
    assert contexts == [(1, 77), (2, 77), (1, 154), (2, 154)]
