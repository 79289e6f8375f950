"""When half precision is good enough."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import onnx
import onnxruntime
import pytest
from click.testing import CliRunner
from onnx import numpy_helper

from bundles import SD_COMPONENTS, conversions, list_files_again
from inpaintrt.bundle import Manifest, load_manifest
from inpaintrt.cli.inspect import inspect
from inpaintrt.errors import ParityError
from inpaintrt_export.precision.check import check_half_precision, record_conversions, vae_half_error
from inpaintrt_export.precision.conversions import (
    HALF_REVISION,
    choose_source,
    describe_half,
    find_conversion,
)
from inpaintrt_export.precision.vae import HALF_TOLERANCE, half_error
from inpaintrt_export.sources.folder import FolderSource

# Whether conversions are accepted where half precision overflows in the VAE.
ACCEPTED = {"text_encoder": True, "vae_encoder": False, "denoiser": True, "vae_decoder": False}


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))


def _scale_weights(bundle: Path, name: str, choose: Callable[[str], bool], factor: float) -> None:
    path = bundle / name / "model.onnx"
    model = onnx.load(path)
    chosen = [tensor for tensor in model.graph.initializer if choose(tensor.name)]
    assert chosen
    for tensor in chosen:
        values = numpy_helper.to_array(tensor) * np.float32(factor)
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    onnx.save(model, path)


def _check(bundle: Path, scratch: Path) -> dict[str, bool]:
    """Whether the conversion of each component is accepted."""
    conversions = check_half_precision(bundle, load_manifest(bundle), scratch, lambda stage: None)
    assert {conversion.precision for conversion in conversions} == {"fp16"}
    return {conversion.component: conversion.accepted for conversion in conversions}


def test_all_networks_of_a_well_behaved_checkpoint_bear_half_precision(bundle: Path, tmp_path: Path) -> None:
    assert _check(bundle, tmp_path) == dict.fromkeys(SD_COMPONENTS, True)


def test_the_error_of_the_vae_is_that_of_pytorch(
    tiny_bundle: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    found = vae_half_error(tiny_bundle, load_manifest(tiny_bundle), tmp_path)
    expected = half_error(FolderSource(tiny_checkpoint, name="tiny").load("vae"))
    assert found == pytest.approx(expected, rel=0.2)


def test_a_vae_that_overflows_stays_float32(bundle: Path, tmp_path: Path) -> None:
    _scale_weights(bundle, "vae_decoder", lambda name: "mid_block.resnets.0.conv2.weight" in name, 1e6)
    assert vae_half_error(bundle, load_manifest(bundle), tmp_path / "error") == float("inf")
    assert _check(bundle, tmp_path / "check") == ACCEPTED


def test_a_vae_that_is_merely_inaccurate_stays_float32(bundle: Path, tmp_path: Path) -> None:
    _scale_weights(bundle, "vae_decoder", lambda name: "decoder.conv_out.weight" in name, 30)
    assert HALF_TOLERANCE < vae_half_error(bundle, load_manifest(bundle), tmp_path) < float("inf")


def test_a_denoiser_that_overflows_is_refused(bundle: Path, tmp_path: Path) -> None:
    _scale_weights(bundle, "denoiser", lambda name: name.endswith("conv_out.weight"), 1e8)
    with pytest.raises(ParityError, match=r"(?s)denoiser too much.*--precision fp32"):
        _check(bundle, tmp_path)


@pytest.fixture
def checked(tiny_bundle: Path) -> Manifest:
    """A manifest of which the VAE's conversions were not accepted."""
    manifest = load_manifest(tiny_bundle)
    conversions = tuple(
        msgspec.structs.replace(describe_half(manifest, name), accepted=not name.startswith("vae_"))
        for name in SD_COMPONENTS
    )
    return msgspec.structs.replace(manifest, builds=(*manifest.builds, *conversions))


def test_builds_take_what_was_accepted(checked: Manifest) -> None:
    denoiser, decoder = (checked.exported[name] for name in ("denoiser", "vae_decoder"))
    assert choose_source(checked, "denoiser", "fp16") == describe_half(checked, "denoiser")
    assert choose_source(checked, "denoiser", "fp32") == denoiser
    assert choose_source(checked, "vae_decoder", "fp16") == decoder


@pytest.mark.parametrize("change", [{"revision": HALF_REVISION + 1}, {"network_sha256": "0" * 64}])
def test_what_is_out_of_date_does_not_count(checked: Manifest, change: dict[str, object]) -> None:
    assert find_conversion(checked, "denoiser") is not None
    builds = tuple(
        build if build.network_sha256 is None else msgspec.structs.replace(build, **change)
        for build in checked.builds
    )
    changed = msgspec.structs.replace(checked, builds=builds)
    assert find_conversion(changed, "denoiser") is None
    assert choose_source(changed, "denoiser", "fp16") == checked.exported["denoiser"]


def test_what_was_not_accepted_stays_on_record(bundle: Path, tmp_path: Path) -> None:
    _scale_weights(bundle, "vae_decoder", lambda name: "mid_block.resnets.0.conv2.weight" in name, 1e6)
    list_files_again(bundle)
    record_conversions(bundle, tmp_path / "scratch", lambda stage: None)
    found = {build.component: build.accepted for build in conversions(load_manifest(bundle))}
    assert found == ACCEPTED
    shown = CliRunner().invoke(inspect, [str(bundle)], catch_exceptions=False).output
    assert re.search(r"vae_decoder .*fp16 .*no, builds compute in fp32 .*not finite", shown)
    stages: list[str] = []
    record_conversions(bundle, tmp_path / "scratch", stages.append)
    assert stages == []


def test_a_plain_unet_takes_and_gives_halves(tiny_bundle: Path) -> None:
    manifest = load_manifest(tiny_bundle)
    step = manifest.exported["denoiser"]
    names = ("sample", "timestep", "encoder_hidden_states")
    unet = msgspec.structs.replace(
        step,
        form="unet",
        inputs={
            name: msgspec.structs.replace(spec, dtype="float32")
            for name, spec in zip(names, step.inputs.values(), strict=False)
        },
    )
    builds = tuple(unet if build == step else build for build in manifest.builds)
    half = describe_half(msgspec.structs.replace(manifest, builds=builds), "denoiser")
    assert {name: spec.dtype for name, spec in half.inputs.items()} == {
        "sample": "float16",
        "timestep": "float32",
        "encoder_hidden_states": "float16",
    }
    assert {spec.dtype for spec in half.outputs.values()} == {"float16"}


def test_rounded_networks_are_float32_outside(tiny_bundle: Path, tmp_path: Path) -> None:
    vae_half_error(tiny_bundle, load_manifest(tiny_bundle), tmp_path)
    session = onnxruntime.InferenceSession(
        tmp_path / "vae_decoder-rounded" / "model.onnx", providers=["CPUExecutionProvider"]
    )
    assert {value.type for value in (*session.get_inputs(), *session.get_outputs())} == {"tensor(float)"}
