"""Step caching is added to a bundle: its denoiser gives a feature, and a shallow denoiser takes it."""

import shutil
from collections.abc import Mapping
from pathlib import Path

import click
import msgspec
import onnx
import onnx_ir as ir
import pytest
from click.testing import CliRunner

from bundles import builds_for
from inpaintrt.bundle import (
    CACHED_FEATURE,
    SHALLOW_DENOISER,
    load_manifest,
    network_digest,
    save_manifest,
    verify_files,
)
from inpaintrt.errors import BundleFormatError, ExportError, ParameterError
from inpaintrt_export import add_step_cache
from inpaintrt_export.commands import register
from inpaintrt_export.graphs.feature import find_feature, take_feature
from inpaintrt_export.step_graph import compose_step
from runtime.networks import JOINED_WEIGHTS, joining_network, small_step_inputs
from step_caches import make_bundle_with_step_cache


@pytest.fixture(scope="module")
def bundle(bundle_cache: Path) -> Path:
    """The tiny bundle with step caching."""
    return make_bundle_with_step_cache(bundle_cache)


@pytest.fixture
def copy(bundle: Path, tmp_path: Path) -> Path:
    """A copy of it, to be changed."""
    return Path(shutil.copytree(bundle, tmp_path / "copy"))


@pytest.fixture(scope="module")
def app() -> click.Group:
    """The command line."""
    app = click.Group()
    register(app)
    return app


def _contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_both_networks_are_in_the_manifest(bundle: Path, tiny_bundle: Path) -> None:
    manifest, before = load_manifest(bundle), load_manifest(tiny_bundle)
    verify_files(manifest, bundle)
    denoiser, shallow = manifest.exported["denoiser"], manifest.exported[SHALLOW_DENOISER]
    feature = denoiser.outputs[CACHED_FEATURE]
    assert (feature.shape, feature.kind) == (("rows", 16, "height", "width"), "cached")
    assert shallow.inputs[CACHED_FEATURE] == feature
    assert {name: spec for name, spec in shallow.inputs.items() if name != CACHED_FEATURE}.items() <= (
        denoiser.inputs.items()
    )
    assert list(shallow.outputs) == ["next_state", "next_finite"]
    assert denoiser.parity == before.exported["denoiser"].parity
    (parity,) = shallow.parity
    assert parity.relative_error < 1e-6
    assert CACHED_FEATURE in parity.case


def test_the_shallow_form_has_the_weights_of_its_layers_alone(bundle: Path) -> None:
    exported = load_manifest(bundle).exported
    denoiser, shallow = exported["denoiser"], exported[SHALLOW_DENOISER]
    assert shallow.weights.keys() == denoiser.weights.keys()
    held = {name: place for name, place in shallow.weights.items() if place}
    assert held.items() <= denoiser.weights.items()
    assert set(shallow.transposed) == {name for name in denoiser.transposed if name in held}
    blocks = {name.split(".")[0] for name in held}
    assert blocks == {"conv_in", "time_embedding", "up_blocks", "conv_norm_out", "conv_out"}
    assert {name.rsplit(".", 1)[0] for name in held if "resnets" in name} == {
        f"up_blocks.1.resnets.1.{layer}" for layer in ("norm1", "conv1", "time_emb_proj", "norm2", "conv2")
    } | {"up_blocks.1.resnets.1.conv_shortcut"}
    initializers = {tensor.name for tensor in onnx.load(bundle / shallow.file).graph.initializer}
    assert set(held.values()) <= initializers


def test_variants_for_cpus_are_made_again(bundle: Path) -> None:
    manifest = load_manifest(bundle)
    variants = {build.component: build for build in builds_for(manifest, "onnxruntime")}
    for name in ("denoiser", SHALLOW_DENOISER):
        assert variants[name].fused == {
            "MultiHeadAttention": _attention_layers(bundle / manifest.exported[name].file)
        }
        assert variants[name].network_sha256 == network_digest(manifest, name)
    assert CACHED_FEATURE in variants["denoiser"].outputs


def _attention_layers(path: Path) -> int:
    return sum(node.op_type == "Softmax" for node in onnx.load(path).graph.node)


def test_a_deeper_cut_takes_the_place_of_the_first(copy: Path, bundle: Path) -> None:
    add_step_cache(copy, cache_branch_id=1)
    manifest, before = load_manifest(copy), load_manifest(bundle)
    verify_files(manifest, copy)
    assert list(manifest.exported) == list(before.exported)
    assert len(manifest.builds) == len(before.builds)
    shallow = manifest.exported[SHALLOW_DENOISER]
    assert shallow.weights["up_blocks.1.resnets.0.conv1.weight"]
    assert not before.exported[SHALLOW_DENOISER].weights["up_blocks.1.resnets.0.conv1.weight"]
    assert shallow.inputs[CACHED_FEATURE].shape[1] == 32
    files = {entry.path for entry in manifest.files}
    assert _contents(copy).keys() == files | {"bundle.json"}


def test_what_was_made_of_the_former_denoiser_is_dropped(tiny_bundle: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))
    manifest = load_manifest(folder)
    (variant,) = [build for build in builds_for(manifest, "onnxruntime") if build.component == "denoiser"]
    for_gpus = msgspec.structs.replace(variant, backend="onnxruntime-cuda")
    save_manifest(msgspec.structs.replace(manifest, builds=(*manifest.builds, for_gpus)), folder)
    add_step_cache(folder)
    assert not builds_for(load_manifest(folder), "onnxruntime-cuda")


def test_a_half_precision_bundle_keeps_halves(bundle_cache: Path) -> None:
    exported = load_manifest(make_bundle_with_step_cache(bundle_cache, precision="fp16")).exported
    assert exported["denoiser"].outputs[CACHED_FEATURE].dtype == "float16"
    assert exported[SHALLOW_DENOISER].inputs[CACHED_FEATURE].dtype == "float16"
    assert exported[SHALLOW_DENOISER].precision == "fp16"


def test_a_layer_that_the_unet_does_not_have_is_refused(copy: Path) -> None:
    before = _contents(copy)
    with pytest.raises(ParameterError, match="no such layer") as caught:
        add_step_cache(copy, cache_branch_id=2)
    assert caught.value.parameter == "cache_branch_id"
    assert "0 to 1" in str(caught.value)
    assert _contents(copy) == before


def test_a_bundle_that_does_not_name_its_weights_is_refused(copy: Path) -> None:
    manifest = load_manifest(copy)
    builds = tuple(
        msgspec.structs.replace(build, weights={}) if build.component == "denoiser" else build
        for build in manifest.builds
    )
    save_manifest(msgspec.structs.replace(manifest, builds=builds), copy)
    with pytest.raises(ExportError, match="does not say where the weights of its denoiser lie"):
        add_step_cache(copy)


def _joining() -> ir.Model:
    return ir.from_proto(compose_step(joining_network(), small_step_inputs()))


WRONG: dict[str, tuple[Mapping[str, str], str]] = {
    "no joining layer": ({"conv_in.weight": "unet/first"}, "resnets.M.conv_shortcut.weight"),
    "no first layer": (
        {name: place for name, place in JOINED_WEIGHTS.items() if name != "conv_in.weight"},
        "no conv_in.weight",
    ),
    "nothing joined": (
        {**JOINED_WEIGHTS, "up_blocks.0.resnets.0.conv_shortcut.weight": "unet/deep"},
        "no Concat of two tensors",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_graph_of_another_form_is_refused(name: str) -> None:
    weights, message = WRONG[name]
    with pytest.raises(ExportError, match="cannot be cut for step caching") as caught:
        find_feature(_joining().graph, weights, 0)
    assert message in str(caught.value)


def test_a_graph_that_still_needs_its_deepest_layers_is_refused() -> None:
    model = _joining()
    weights = {**JOINED_WEIGHTS, "mid_block.attentions.0.proj_in.weight": "unet/last"}
    with pytest.raises(ExportError, match=r"still needs mid_block\.attentions"):
        take_feature(model, find_feature(model.graph, weights, 0), weights)


@pytest.mark.parametrize("left_out", [SHALLOW_DENOISER, CACHED_FEATURE])
def test_a_manifest_with_half_of_it_is_refused(copy: Path, left_out: str) -> None:
    manifest = load_manifest(copy)
    builds = tuple(
        msgspec.structs.replace(
            build, outputs={name: spec for name, spec in build.outputs.items() if name != left_out}
        )
        for build in manifest.builds
        if build.component != left_out
    )
    save_manifest(msgspec.structs.replace(manifest, builds=builds), copy)
    with pytest.raises(BundleFormatError, match="does not describe the components"):
        load_manifest(copy)


def test_the_command_adds_it(app: click.Group, copy: Path) -> None:
    result = CliRunner().invoke(app, ["add-step-cache", str(copy), "--cache-branch-id", "1"])
    assert result.exit_code == 0, result.output
    assert result.stdout.split() == [str(copy)]
    assert SHALLOW_DENOISER in result.stderr
