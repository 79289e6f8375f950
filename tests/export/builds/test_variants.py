"""Variants for ONNX Runtime's CUDA provider, beside the bundle's own networks."""

import shutil
from pathlib import Path

import msgspec
import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper

from bundles import SD_COMPONENTS, builds_for, conversions, list_files_again
from export.graphs.group_norm import spell_out_norms
from inpaintrt import InpaintPipeline
from inpaintrt.bundle import (
    Build,
    choose_builds,
    load_manifest,
    replace_build,
    save_manifest,
    verify_files,
)
from inpaintrt.demo import load_scene, paint_scene
from inpaintrt.errors import BundleIntegrityError, ExportError, ParameterError, ParityError
from inpaintrt.store import find_bundle
from inpaintrt_export.builds.variants import build_variants
from inpaintrt_export.onnx_import import import_onnx

NAME = "onnxruntime-cuda.onnx"
MIN_PSNR = 40  # dB


@pytest.fixture
def half(tiny_half_bundle: Path, tmp_path: Path) -> Path:
    """An fp16 bundle whose denoiser's weights lie beside its graph, as those of large checkpoints do."""
    bundle = Path(shutil.copytree(tiny_half_bundle, tmp_path / "half"))
    path = bundle / "denoiser" / "model.onnx"
    onnx.save(
        onnx.load(path), path, save_as_external_data=True, location="model.onnx.data", size_threshold=200
    )
    list_files_again(bundle)
    denoiser = load_manifest(bundle).exported["denoiser"]
    external = msgspec.structs.replace(denoiser, files=(denoiser.file, f"{denoiser.file}.data"))
    replace_build(bundle, denoiser, external)
    return bundle


@pytest.fixture(scope="module")
def varied(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An fp32 bundle with variants in half precision."""
    bundle = Path(shutil.copytree(tiny_bundle, tmp_path_factory.mktemp("bundles") / "varied"))
    report = build_variants(bundle)
    assert [variant.component for variant in report.built] == list(SD_COMPONENTS)
    return bundle


def _for_gpus(bundle: Path) -> tuple[Build, ...]:
    return builds_for(load_manifest(bundle), "onnxruntime-cuda")


def change_scale(bundle: Path, factor: float, weight: float) -> None:
    """Another scale, and other projections, in every attention layer."""
    path = bundle / "denoiser" / "model.onnx"
    model = onnx.load(path)
    producers = {name: node for node in model.graph.node for name in node.output}
    logits = [producers[node.input[0]] for node in model.graph.node if node.op_type == "Softmax"]
    queries = [producers[node.input[0]] for node in logits]
    scales = {node.input[1] for node in queries}
    projections = {
        producers[producers[producers[node.input[0]].input[0]].input[0]].input[1] for node in queries
    }
    for tensor in model.graph.initializer:
        by = factor if tensor.name in scales else weight if tensor.name in projections else None
        if by is not None:
            tensor.CopyFrom(
                numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(by), tensor.name)
            )
    onnx.save(model, path)
    list_files_again(bundle)


def test_a_half_bundle_gets_a_graph_that_shares_its_weights(half: Path) -> None:
    weights = (half / "denoiser" / "model.onnx.data").stat()
    (variant,) = build_variants(half).built
    manifest = load_manifest(half)
    verify_files(manifest, half)
    assert _for_gpus(half) == (variant,)
    assert variant.fused == {"MultiHeadAttention": 8}
    assert variant.file == f"denoiser/{NAME}"
    assert variant.inputs == manifest.exported["denoiser"].inputs
    assert 0 < variant.parity[0].relative_error < 1e-3
    model = onnx.load(half / variant.file, load_external_data=False)
    locations = {
        entry.value
        for tensor in model.graph.initializer
        for entry in tensor.external_data
        if entry.key == "location"
    }
    assert locations == {"model.onnx.data"}
    assert not model.graph.value_info
    assert (half / "denoiser" / "model.onnx.data").stat() == weights
    assert (half / variant.file).stat().st_size < weights.st_size
    assert not list(half.rglob("*onnxruntime-cuda*.data"))


def test_fused_norms_are_made_when_asked_for(half: Path) -> None:
    build_variants(half)
    (variant,) = build_variants(half, fused_norms=True).built
    assert variant.fused == {"MultiHeadAttention": 8, "GroupNorm": 21}
    assert _for_gpus(half) == (variant,)
    spelled = spell_out_norms(onnx.load(half / variant.file))
    session = onnxruntime.InferenceSession(spelled.SerializeToString(), providers=["CPUExecutionProvider"])
    assert {value.name for value in session.get_inputs()} == set(variant.inputs)


def test_a_float32_bundle_gets_half_precision(varied: Path) -> None:
    manifest = load_manifest(varied)
    verify_files(manifest, varied)
    assert {variant.precision for variant in _for_gpus(varied)} == {"fp16"}
    assert [conversion.component for conversion in conversions(manifest)] == list(SD_COMPONENTS)
    for variant in _for_gpus(varied):
        assert bool(variant.fused) == (variant.component == "denoiser")
        session = onnxruntime.InferenceSession(varied / variant.file, providers=["CPUExecutionProvider"])
        assert {value.name for value in session.get_inputs()} == set(variant.inputs)
        own = (varied / manifest.exported[variant.component].file).stat().st_size
        assert (varied / variant.file).stat().st_size < 0.8 * own
    assert not list(varied.glob(".half-*"))


def test_the_backend_takes_the_variants(varied: Path) -> None:
    manifest = load_manifest(varied)
    chosen = choose_builds(manifest, "onnxruntime-cuda")
    assert {name: network.file for name, network in chosen.items()} == {
        name: f"{name}/{NAME}" for name in SD_COMPONENTS
    }
    assert choose_builds(manifest, "onnxruntime-cuda", exported_only=True) == manifest.exported


def test_variants_paint_what_the_bundles_own_networks_paint(tmp_path: Path) -> None:
    """The demo's images, as the CPU computes attention in one node and weights in half precision."""
    bundle = Path(shutil.copytree(find_bundle("demo"), tmp_path / "demo"))
    build_variants(bundle)
    manifest = load_manifest(bundle)
    variants = choose_builds(manifest, "onnxruntime-cuda").values()
    exported = tuple(
        msgspec.structs.replace(variant, backend=None, network_sha256=None) for variant in variants
    )
    save_manifest(msgspec.structs.replace(manifest, builds=exported), bundle)
    painted, expected = (_paint(folder) for folder in (bundle, find_bundle("demo")))
    for mine, theirs in zip(painted, expected, strict=True):
        psnr = -10 * np.log10(np.square(mine - theirs).mean())
        assert MIN_PSNR <= psnr < np.inf


def _paint(bundle: Path) -> list[NDArray[np.float64]]:
    with InpaintPipeline.from_bundle(bundle) as pipe:
        return [np.asarray(result.image) / 255 for result in paint_scene(pipe, load_scene())]


def test_a_plain_unet_is_fused_and_halved_as_well(tiny_onnx_folder: Path, tmp_path: Path) -> None:
    bundle = import_onnx(tiny_onnx_folder, tmp_path / "imported")
    build_variants(bundle)
    manifest = load_manifest(bundle)
    verify_files(manifest, bundle)
    variants = {variant.component: variant for variant in _for_gpus(bundle)}
    assert set(variants) == set(SD_COMPONENTS)
    denoiser = variants["denoiser"]
    assert (denoiser.form, denoiser.fused) == ("unet", {"MultiHeadAttention": 8})
    assert {name: spec.dtype for name, spec in denoiser.inputs.items()} == {
        "sample": "float16",
        "timestep": "float32",
        "encoder_hidden_states": "float16",
    }


def test_a_second_build_makes_nothing(varied: Path) -> None:
    before = (varied / "bundle.json").read_bytes()
    report = build_variants(varied)
    assert report.built == ()
    assert report.reused == _for_gpus(varied)
    assert (varied / "bundle.json").read_bytes() == before


def test_another_precision_takes_the_place_of_the_first(varied: Path, tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(varied, tmp_path / "copy"))
    (variant,) = build_variants(bundle, precision="fp32").built
    assert (variant.component, variant.precision) == ("denoiser", "fp32")
    assert variant.parity[0].relative_error < 1e-5
    verify_files(load_manifest(bundle), bundle)
    assert _for_gpus(bundle) == (variant,)
    assert [path.parent.name for path in bundle.rglob(f"{NAME}*")] == ["denoiser"]


def test_weights_of_its_own_lie_beside_a_large_variant(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("inpaintrt_export.graphs.files.EMBEDDED_WEIGHTS_LIMIT", 1000)
    bundle = Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))
    build_variants(bundle)
    manifest = load_manifest(bundle)
    verify_files(manifest, bundle)
    listed = {entry.path for entry in manifest.files}
    assert {f"{name}/{NAME}.data" for name in SD_COMPONENTS} <= listed
    for name in SD_COMPONENTS:
        onnxruntime.InferenceSession(bundle / name / NAME, providers=["CPUExecutionProvider"])


def test_float32_variants_of_a_half_bundle_are_refused(tiny_half_bundle: Path) -> None:
    with pytest.raises(ParameterError, match="computes in fp16"):
        build_variants(tiny_half_bundle, precision="fp32")


def test_a_damaged_bundle_gets_no_variants(half: Path) -> None:
    (half / "denoiser" / "model.onnx").write_bytes(b"")
    with pytest.raises(BundleIntegrityError, match="denoiser"):
        build_variants(half)


@pytest.mark.parametrize(
    ("factor", "weight", "error"), [(2.0, 1.0, ExportError), (1.0009, 100.0, ParityError)]
)
def test_a_variant_that_cannot_be_right_is_not_kept(
    tiny_bundle: Path, tmp_path: Path, factor: float, weight: float, error: type[ExportError]
) -> None:
    """Attention of another form; and attention that is so sharp that a scale off by 0.2 % shows."""
    bundle = Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))
    change_scale(bundle, factor, weight)
    with pytest.raises(error):
        build_variants(bundle, precision="fp32")
    verify_files(load_manifest(bundle), bundle)
    assert _for_gpus(bundle) == ()
    assert not list(bundle.rglob(f"{NAME}*"))
