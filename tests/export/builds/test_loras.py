"""Plans with LoRAs: beside those without, and those with others."""

import dataclasses
import hashlib
import re
import shutil
from pathlib import Path

import msgspec
import numpy as np
import onnxruntime
import pytest
import torch
from click.testing import CliRunner

from bundles import builds_for
from inpaintrt import InpaintPipeline
from inpaintrt.backends.tensorrt_library import PlanLibrary
from inpaintrt.bundle import Build, Precision, load_manifest, verify_files
from inpaintrt.cli.inspect import inspect
from inpaintrt.errors import LoraMismatchError
from inpaintrt.lora import open_loras
from inpaintrt_export.builds import BuildSettings, build_plans
from inpaintrt_export.builds.plans import describe_plan
from inpaintrt_export.builds.sources import PlanSources, open_sources
from inpaintrt_export.precision.conversions import HALF_REVISION
from inpaintrt_export.progress import silent
from lora_files import save_lora
from plan_fixtures import TINY

MODULE = "text_encoder.text_model.encoder.layers.0.mlp.fc1"
INPUTS = {"input_ids": np.arange(77)[None] * 3, "clip_skip": np.array([0])}


@pytest.fixture(scope="module")
def lora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA of one matrix of the text encoder, whose plan is built fastest."""
    values = torch.randn(32, 16, generator=torch.Generator().manual_seed(0))
    return save_lora(tmp_path_factory.mktemp("lora") / "style.safetensors", {f"{MODULE}.diff": values})


def settings(*sources: tuple[Path, float]) -> BuildSettings:
    return dataclasses.replace(TINY, loras=open_loras(sources))


def test_plans_of_one_lora_come_back_after_those_of_another(
    planned_bundle: Path, lora: Path, tmp_path: Path
) -> None:
    bundle = Path(shutil.copytree(planned_bundle, tmp_path / "bundle"))
    plain = {plan.file for plan in builds_for(load_manifest(bundle), "tensorrt-rtx")}
    digests, built = [], []
    for scale in (0.5, 1.0, 0.5):
        report = build_plans(bundle, settings((lora, scale)))
        (plan,) = (plan for plan in (*report.built, *report.reused) if plan.loras)
        built.append([plan.component for plan in report.built])
        digests.append(hashlib.sha256((bundle / plan.file).read_bytes()).hexdigest())
        assert {plan.file for plan in report.reused if not plan.loras} < plain
    assert built == [["text_encoder"], ["text_encoder"], []]
    assert digests[0] == digests[2] != digests[1]
    manifest = load_manifest(bundle)
    verify_files(manifest, bundle)
    assert plain < {plan.file for plan in builds_for(manifest, "tensorrt-rtx")}
    shown = CliRunner().invoke(inspect, [str(bundle)], env={"COLUMNS": "200"}).output
    assert re.search(r"text_encoder +│ - +│ tensorrt-rtx", shown)
    assert re.search(r"text_encoder +│ style\.safetensors:0\.5 +│ tensorrt-rtx", shown)


def test_plans_are_known_by_content_and_scale_of_their_loras(
    planned_bundle: Path, rtx: PlanLibrary, lora: Path, tmp_path: Path
) -> None:
    manifest = load_manifest(planned_bundle)
    renamed = Path(shutil.copyfile(lora, tmp_path / "renamed.safetensors"))

    def describe(name: str, *sources: tuple[Path, float]) -> Build:
        return describe_plan(manifest, name, rtx, ("sm89",), settings(*sources))

    plans = [
        describe("text_encoder", *sources)
        for sources in (
            [],
            [(lora, 0.5)],
            [(lora, 1.0)],
            [(lora, 0.5), (lora, 1.0)],
            [(lora, 1.0), (lora, 0.5)],
        )
    ]
    assert len({plan.key for plan in plans}) == len({plan.file for plan in plans}) == len(plans)
    assert describe("text_encoder", (renamed, 0.5)).key == plans[1].key
    assert describe("denoiser", (lora, 0.5)) == describe("denoiser")


@pytest.mark.parametrize(("precision", "revision"), [("fp32", 0), ("fp16", HALF_REVISION)])
def test_plans_are_compiled_from_the_weights_that_a_bundle_is_loaded_with(
    tiny_bundle: Path, rtx: PlanLibrary, lora: Path, tmp_path: Path, precision: Precision, revision: int
) -> None:
    manifest = load_manifest(tiny_bundle)
    wanted = dataclasses.replace(settings((lora, 0.5)), precision=precision)
    plan = describe_plan(manifest, "text_encoder", rtx, ("sm89",), wanted)
    plan = msgspec.structs.replace(plan, revision=revision)
    path = PlanSources(tiny_bundle, tmp_path, wanted.loras).path(plan)
    assert path.is_relative_to(tmp_path)
    with InpaintPipeline.from_bundle(tiny_bundle, loras=[(lora, 0.5)]) as pipe:
        expected = pipe.stages.engines["text_encoder"].run(INPUTS)["last_hidden_state"]
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, INPUTS)
    tolerance = 1e-6 if revision == 0 else 1e-2
    np.testing.assert_allclose(found, expected, atol=tolerance * np.abs(expected).max())


def test_loras_for_other_checkpoints_are_refused(planned_bundle: Path, tmp_path: Path) -> None:
    other = save_lora(tmp_path / "other.safetensors", {"lora_te2_text_projection.diff": torch.ones(2, 2)})
    with pytest.raises(LoraMismatchError, match="text_encoder_2"):
        build_plans(planned_bundle, settings((other, 1.0)))


def test_nothing_changed_is_left_in_the_bundle(tiny_half_bundle: Path, lora: Path, tmp_path: Path) -> None:
    before = sorted(tiny_half_bundle.rglob("*"))
    with open_sources(tiny_half_bundle, "fp16", silent, open_loras([lora])):
        assert sorted(tiny_half_bundle.rglob("*")) != before
    assert sorted(tiny_half_bundle.rglob("*")) == before
