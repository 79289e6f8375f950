"""When half precision is good enough."""

import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from inpaintrt.bundle import COMPONENT_NAMES, Conversion, Manifest, load_manifest, network_digest
from inpaintrt.errors import ParityError
from inpaintrt_export.conversion.judging import judge, vae_half_error
from inpaintrt_export.conversion.networks import (
    HALF_REVISION,
    chosen_network,
    find_conversion,
    half_component,
)
from inpaintrt_export.sources.folder import FolderSource
from inpaintrt_export.vae_precision import HALF_TOLERANCE, half_error


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


def _judge(bundle: Path, scratch: Path) -> dict[str, Conversion]:
    manifest = load_manifest(bundle)
    conversions = judge(bundle, manifest, scratch, lambda stage: None)
    return {conversion.component: conversion for conversion in conversions}


def test_all_networks_of_a_well_behaved_checkpoint_stand_half_precision(bundle: Path, tmp_path: Path) -> None:
    conversions = _judge(bundle, tmp_path)
    assert set(conversions) == set(COMPONENT_NAMES)
    assert {conversion.precision for conversion in conversions.values()} == {"fp16"}


def test_the_error_of_the_vae_is_that_of_pytorch(
    tiny_bundle: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    found = vae_half_error(tiny_bundle, load_manifest(tiny_bundle), tmp_path)
    expected = half_error(FolderSource(tiny_checkpoint, name="tiny").load("vae"))
    assert found == pytest.approx(expected, rel=0.2)


def test_a_vae_that_overflows_stays_float32(bundle: Path, tmp_path: Path) -> None:
    _scale_weights(bundle, "vae_decoder", lambda name: "mid_block.resnets.0.conv2.weight" in name, 1e6)
    assert vae_half_error(bundle, load_manifest(bundle), tmp_path / "error") == float("inf")
    conversions = _judge(bundle, tmp_path / "judge")
    precisions = {name: conversion.precision for name, conversion in conversions.items()}
    assert precisions == {
        "text_encoder": "fp16",
        "vae_encoder": "fp32",
        "denoiser": "fp16",
        "vae_decoder": "fp32",
    }


def test_a_vae_that_is_merely_inaccurate_stays_float32(bundle: Path, tmp_path: Path) -> None:
    _scale_weights(bundle, "vae_decoder", lambda name: "decoder.conv_out.weight" in name, 30)
    assert HALF_TOLERANCE < vae_half_error(bundle, load_manifest(bundle), tmp_path) < float("inf")


def test_a_denoiser_that_overflows_is_refused(bundle: Path, tmp_path: Path) -> None:
    _scale_weights(bundle, "denoiser", lambda name: name.endswith("conv_out.weight"), 1e8)
    with pytest.raises(ParityError, match=r"(?s)denoiser too much.*--precision fp32"):
        _judge(bundle, tmp_path)


@pytest.fixture
def judged(tiny_bundle: Path) -> Manifest:
    manifest = load_manifest(tiny_bundle)
    conversions = tuple(
        Conversion(
            component=name,
            precision="fp32" if name.startswith("vae_") else "fp16",
            network_sha256=digest,
            revision=HALF_REVISION,
            parity=(),
        )
        for name, digest in _digests(manifest).items()
    )
    return msgspec.structs.replace(manifest, conversions=conversions)


def _digests(manifest: Manifest) -> dict[str, str]:
    return {name: network_digest(manifest, name) for name in COMPONENT_NAMES}


def test_builds_take_what_was_found_good(judged: Manifest) -> None:
    denoiser, decoder = (judged.components[name] for name in ("denoiser", "vae_decoder"))
    assert chosen_network(judged, "denoiser", "fp16") == (half_component("denoiser", denoiser), HALF_REVISION)
    assert chosen_network(judged, "denoiser", "fp32") == (denoiser, 0)
    assert chosen_network(judged, "vae_decoder", "fp16") == (decoder, 0)


@pytest.mark.parametrize("change", [{"revision": HALF_REVISION + 1}, {"network_sha256": "0" * 64}])
def test_what_is_out_of_date_does_not_count(judged: Manifest, change: dict[str, object]) -> None:
    assert find_conversion(judged, "denoiser") is not None
    stale = tuple(msgspec.structs.replace(conversion, **change) for conversion in judged.conversions)
    changed = msgspec.structs.replace(judged, conversions=stale)
    assert find_conversion(changed, "denoiser") is None
    assert chosen_network(changed, "denoiser", "fp16") == (judged.components["denoiser"], 0)


def test_a_plain_unet_takes_and_gives_halves(tiny_bundle: Path) -> None:
    component = msgspec.structs.replace(
        load_manifest(tiny_bundle).components["denoiser"],
        form="unet",
        inputs={
            name: msgspec.structs.replace(spec, dtype="float32")
            for name, spec in zip(
                ("sample", "timestep", "encoder_hidden_states"),
                load_manifest(tiny_bundle).components["denoiser"].inputs.values(),
                strict=False,
            )
        },
    )
    half = half_component("denoiser", component)
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
