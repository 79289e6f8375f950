"""Variants for ONNX Runtime's CPU provider: every fp32 export has them, with the memory that they take."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from bundles import builds_for, make_tiny_bundle
from export.builds.test_variants import change_scale
from inpaintrt.backends import open_engines
from inpaintrt.bundle import Activations, Build, choose_builds, drop_builds, load_manifest, verify_files
from inpaintrt.errors import ExportError, ParameterError
from inpaintrt_export.builds.activations import fit_activations, record_activations
from inpaintrt_export.builds.peak import main
from inpaintrt_export.builds.variants import build_variants

NETWORKS = {"vae_encoder", "denoiser", "vae_decoder"}


@pytest.fixture
def bare(tiny_bundle: Path, tmp_path: Path) -> Path:
    """A bundle as exports were before there were variants for CPUs."""
    bundle = Path(shutil.copytree(tiny_bundle, tmp_path / "bare"))
    drop_builds(bundle, _variants(bundle))
    return bundle


def _variants(bundle: Path) -> tuple[Build, ...]:
    return builds_for(load_manifest(bundle), "onnxruntime", "onnxruntime-cuda")


def _activations(bundle: Path) -> dict[str, Activations | None]:
    builds = choose_builds(load_manifest(bundle), "onnxruntime")
    return {name: build.activations for name, build in builds.items()}


@pytest.mark.parametrize("name", ["tiny", "tiny-text-to-image"])
def test_a_float32_export_has_them(bundle_cache: Path, name: str) -> None:
    bundle = make_tiny_bundle(bundle_cache, name=name)
    manifest = load_manifest(bundle)
    verify_files(manifest, bundle)
    assert {variant.component for variant in _variants(bundle)} == NETWORKS
    for variant in _variants(bundle):
        model = onnx.load(bundle / variant.file, load_external_data=False)
        operators = [node.op_type for node in model.graph.node]
        assert operators.count("MultiHeadAttention") == variant.fused["MultiHeadAttention"] > 0
        assert "Softmax" not in operators
        assert variant.precision == "fp32"
        assert variant.parity[0].relative_error < 1e-4


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_their_memory_is_measured(tiny_bundle: Path) -> None:
    found = _activations(tiny_bundle)
    assert found.pop("text_encoder") is None
    for activations in found.values():
        assert activations is not None
        assert 100 < activations.per_position < 100_000
        assert activations.per_pair == 0


def test_a_half_export_has_none(tiny_half_bundle: Path) -> None:
    assert _variants(tiny_half_bundle) == ()
    with pytest.raises(ParameterError, match=r"(?s)computes in fp16.*--precision fp32"):
        build_variants(tiny_half_bundle, backend="onnxruntime")


def test_they_compute_what_the_bundle_s_own_networks_compute(tiny_bundle: Path) -> None:
    manifest = load_manifest(tiny_bundle)
    latents = np.random.default_rng(0).standard_normal((1, 4, 24, 40)).astype(np.float32)
    mine, theirs = (
        open_engines("onnxruntime", tiny_bundle, manifest, {"variants": variants})["vae_decoder"].run(
            {"latent_sample": latents}
        )["sample"]
        for variants in (True, False)
    )
    np.testing.assert_allclose(mine, theirs, atol=1e-4)


def test_an_older_bundle_gets_them_from_the_command(bare: Path) -> None:
    command = [sys.executable, "-c", "from inpaintrt.cli import main; main()", "build", str(bare)]
    outputs = []
    for _ in range(2):
        result = subprocess.run(
            [*command, "--backend", "onnxruntime"], capture_output=True, text=True, check=False
        )
        assert result.returncode == 0, result.stderr
        outputs.append(result.stdout)
    assert outputs[0].count("fp32, ") == 3
    assert outputs[1].count("was there already") == 3
    manifest = load_manifest(bare)
    verify_files(manifest, bare)
    assert {variant.component for variant in _variants(bare)} == NETWORKS
    if sys.platform == "linux":
        assert None not in [_activations(bare)[name] for name in NETWORKS]


@pytest.mark.parametrize("option", ["--precision=fp32", "--fused-norms", "--target=sm89"])
def test_options_for_gpus_are_refused(bare: Path, option: str) -> None:
    command = [sys.executable, "-c", "from inpaintrt.cli import main; main()", "build", str(bare)]
    result = subprocess.run(
        [*command, "--backend", "onnxruntime", option], capture_output=True, text=True, check=False
    )
    assert result.returncode == 1
    assert f"received: {option.partition('=')[0]}" in result.stderr


def test_attention_of_another_form_stays_and_its_square_is_measured(bare: Path) -> None:
    change_scale(bare, 2.0, 1.0)
    build_variants(bare, backend="onnxruntime")
    manifest = load_manifest(bare)
    assert {variant.component for variant in _variants(bare)} == NETWORKS - {"denoiser"}
    if sys.platform == "linux":
        measured = manifest.exported["denoiser"].activations
        assert measured is not None
        assert measured.per_pair > 0.5


def test_variants_for_gpus_stay(bare: Path) -> None:
    build_variants(bare, precision="fp32")
    build_variants(bare, backend="onnxruntime")
    assert {variant.backend for variant in _variants(bare)} == {
        "onnxruntime",
        "onnxruntime-cuda",
    }
    verify_files(load_manifest(bare), bare)


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_a_network_that_does_not_run_is_named(bare: Path, tmp_path: Path) -> None:
    (bare / "denoiser" / "model.onnx").write_bytes(b"no network")
    with pytest.raises(ExportError, match=r"(?s)the denoiser does not run at 256 x 256.*model\.onnx"):
        record_activations(bare, tmp_path, ["denoiser"], lambda *_: None)


def test_two_sizes_tell_linear_from_square() -> None:
    expected = Activations(per_position=40.0, per_pair=0.5)
    measured = [expected.total(1, positions) for positions in (1024, 4096)]
    assert fit_activations(measured, [1024, 4096]) == expected


def test_noise_is_no_saving() -> None:
    assert fit_activations([2000.0, 4000.0], [10, 40]) == Activations(per_position=100.0, per_pair=0.0)
    assert fit_activations([4000.0], [40]) == Activations(per_position=100.0, per_pair=0.0)


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_the_peak_of_a_run_is_told_in_bytes(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    inputs = tmp_path / "inputs.npz"
    np.savez(inputs, sample=np.zeros((1, 3, 64, 64), np.float32))
    monkeypatch.setattr(sys, "argv", ["peak", str(tiny_bundle), "vae_encoder", str(inputs)])
    main()
    assert int(capsys.readouterr().out) >= 0
