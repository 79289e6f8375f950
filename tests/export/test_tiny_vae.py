"""A tiny VAE is added to a bundle, or refused; and what is built of it."""

import dataclasses
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import click
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file

from bundles import builds_for, conversions
from export.hub_client import asked_files, file_contents, redirected_hub
from hub_server import Hub, Repository
from inpaintrt.backends.tensorrt_library import PlanLibrary
from inpaintrt.bundle import PRECISIONS, TINY_VAE, choose_builds, load_manifest, verify_files
from inpaintrt.errors import ParityError, PlanError, SourceError, UnsafeWeightsError
from inpaintrt_export import add_tiny_vae, export_bundle
from inpaintrt_export.builds import build_plans
from inpaintrt_export.builds.variants import build_variants
from inpaintrt_export.commands import register
from inpaintrt_export.precision.vae import HALF_TOLERANCE, half_error
from inpaintrt_export.sources import SourceOptions
from inpaintrt_export.sources.synthetic import SyntheticTinyVae
from inpaintrt_export.sources.tiny_vae import open_tiny_vae
from plan_fixtures import TINY, planned_bundle, rtx
from tiny_vaes import make_bundle_with_tiny_vae, make_tiny_vae

__all__ = ["planned_bundle", "rtx"]

Change = Callable[..., Path]

NAME = "painter/tiny-taesd"
WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def tiny_vae(bundle_cache: Path) -> Path:
    return make_tiny_vae(bundle_cache)


@pytest.fixture(scope="module")
def bundle(bundle_cache: Path) -> Path:
    """A float32 bundle with a tiny VAE."""
    return make_bundle_with_tiny_vae(bundle_cache)


@pytest.fixture
def copy(tiny_text_to_image_bundle: Path, tmp_path: Path) -> Path:
    """A bundle without one, which a test may change."""
    return Path(shutil.copytree(tiny_text_to_image_bundle, tmp_path / "bundle"))


@pytest.fixture
def change(tiny_vae: Path, tmp_path: Path) -> Change:
    """A copy of the tiny VAE with another configuration; None removes an entry."""

    def change(**changes: Any) -> Path:
        folder = Path(shutil.copytree(tiny_vae, tmp_path / "changed"))
        config = {**json.loads((folder / "config.json").read_text()), **changes}
        kept = {name: value for name, value in config.items() if value is not None}
        (folder / "config.json").write_text(json.dumps(kept))
        return folder

    return change


@pytest.fixture(scope="module")
def app() -> click.Group:
    """The command line."""
    app = click.Group()
    register(app)
    return app


def refusal(bundle: Path, source: Path | str, **options: Any) -> str:
    """The message of a refusal, which leaves the bundle as it was."""
    before = file_contents(bundle)
    with pytest.raises(SourceError) as caught:
        add_tiny_vae(bundle, source, SourceOptions(**options))
    assert file_contents(bundle) == before
    return str(caught.value)


def test_the_networks_and_their_origin_are_in_the_manifest(
    bundle: Path, tiny_text_to_image_bundle: Path
) -> None:
    manifest, before = load_manifest(bundle), load_manifest(tiny_text_to_image_bundle)
    verify_files(manifest, bundle)
    assert list(manifest.exported) == [*before.exported, *TINY_VAE]
    assert manifest.tiny_vae is not None
    assert manifest.tiny_vae.checkpoint.id.startswith("tiny-taesd-")
    assert manifest.tiny_vae.latent_scale == 1.0
    assert len(manifest.tiny_vae.checkpoint.sha256 or "") == 64
    encoder, decoder = (manifest.exported[name] for name in TINY_VAE)
    assert encoder.outputs["latents"].shape == ("batch", 4, "height/8", "width/8")
    assert decoder.outputs["sample"].shape == ("batch", 3, "8*height", "8*width")
    for build in (encoder, decoder):
        assert len(build.parity) == 3
        assert all(0 < parity.relative_error < 1e-5 for parity in build.parity)
        assert (build.activations is not None) == (sys.platform == "linux")


def test_everything_else_stays_as_it_was(bundle: Path, tiny_text_to_image_bundle: Path) -> None:
    manifest, before = load_manifest(bundle), load_manifest(tiny_text_to_image_bundle)
    own = tuple(build for build in manifest.builds if build.component not in TINY_VAE)
    assert own == before.builds
    assert set(before.files) < set(manifest.files)
    assert "tiny_vae" not in json.loads((tiny_text_to_image_bundle / "bundle.json").read_text())


def test_inspect_shows_it(bundle: Path) -> None:
    command: list[str | Path] = [Path(sys.executable).with_name("inpaintrt"), "inspect", bundle]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    for words in ("tiny VAE", "tiny_vae_encoder", "tiny_vae_decoder"):
        assert words in shown, words


def test_a_second_one_is_refused(bundle: Path, tiny_vae: Path) -> None:
    message = refusal(bundle, tiny_vae)
    assert "already has a tiny VAE" in message
    assert "--tiny-vae" in message


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"_class_name": "AutoencoderKL"}, ["tiny_vae", "AutoencoderKL", "AutoencoderTiny"]),
        ({"_class_name": None}, ["tiny_vae", "no class", "AutoencoderTiny"]),
        ({"latent_channels": 16}, ["16 channels, 1/8", "4 channels, 1/8", "taesdxl"]),
        (
            {
                "block_out_channels": [8] * 3,
                "decoder_block_out_channels": [8] * 3,
                "encoder_block_out_channels": [8] * 3,
            },
            ["4 channels, 1/4", "4 channels, 1/8"],
        ),
        ({"encoder_block_out_channels": [8] * 3}, ["encoder and decoder", "3 and 4 blocks"]),
        ({"upsampling_scaling_factor": 4}, ["encoder and decoder", "upsampling_scaling_factor=4"]),
        (
            {"block_out_channels": None, "decoder_block_out_channels": None},
            ["incomplete", "block_out_channels=None"],
        ),
        ({"latent_channels": None}, ["incomplete", "latent_channels=None"]),
        ({"shift_factor": 0.1}, ["scales latents", "shift_factor=0.1"]),
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused(
    copy: Path, change: Change, changes: dict[str, Any], words: list[str]
) -> None:
    message = refusal(copy, change(**changes))
    for word in words:
        assert word in message


def test_a_configuration_without_the_field_that_diffusers_adds_fits(change: Change) -> None:
    source = open_tiny_vae(str(change(block_out_channels=None)), SourceOptions())
    assert isinstance(source.load("tiny_vae"), torch.nn.Module)


def test_a_folder_that_is_no_vae_is_refused(copy: Path, tiny_checkpoint: Path, tmp_path: Path) -> None:
    assert "config.json" in refusal(copy, tiny_checkpoint)
    assert "AutoencoderKL" in refusal(copy, tiny_checkpoint / "vae")
    (tmp_path / "empty").mkdir()
    assert "an empty folder" in refusal(copy, tmp_path / "empty")


@pytest.mark.parametrize(
    ("source", "words"),
    [("no-such-vae", "madebyollin/taesd"), ("synthetic:sd15", "synthetic:taesd, synthetic:tiny-taesd")],
)
def test_a_source_that_is_none_is_refused(copy: Path, source: str, words: str) -> None:
    assert words in refusal(copy, source)


def test_weights_that_are_missing_damaged_or_pickled_are_refused(copy: Path, change: Change) -> None:
    folder = change()
    path = folder / WEIGHTS
    weights = load_file(path)
    path.write_bytes(path.read_bytes()[:-100])
    assert "cannot be loaded" in refusal(copy, folder)
    path.unlink()
    assert WEIGHTS in refusal(copy, folder)
    torch.save(weights, folder / "diffusion_pytorch_model.bin")
    with pytest.raises(UnsafeWeightsError, match="--allow-pickle"):
        add_tiny_vae(copy, folder)
    allowed = open_tiny_vae(str(folder), SourceOptions(allow_pickle=True))
    assert allowed.origin().sha256 is not None
    assert isinstance(allowed.load("tiny_vae"), torch.nn.Module)


def test_a_failed_comparison_leaves_the_bundle_as_it_was(
    copy: Path, tiny_vae: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = file_contents(copy)
    perfect = dataclasses.replace(PRECISIONS["fp32"], tolerance=0.0)
    monkeypatch.setitem(PRECISIONS, "fp32", perfect)
    with pytest.raises(ParityError, match="tiny_vae_encoder does not compute"):
        add_tiny_vae(copy, tiny_vae)
    assert file_contents(copy) == before


def test_an_export_refuses_one_that_does_not_fit_before_it_begins(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"(?s)does not fit.*1/8.*1/4"):
        export_bundle("synthetic:tiny-sd2", tmp_path / "bundle", tiny_vae="synthetic:tiny-taesd")
    assert list(tmp_path.iterdir()) == []


def test_half_precision_is_judged_by_a_round_trip() -> None:
    vae = SyntheticTinyVae("synthetic:tiny-taesd", 0).load("tiny_vae")
    fitting: Any = vae
    assert 0 < half_error(fitting) < HALF_TOLERANCE
    with torch.no_grad():
        fitting.decoder.layers[-1].weight.mul_(1e6)
    assert half_error(fitting) > HALF_TOLERANCE


def test_variants_for_gpus_are_made_of_it_in_half_precision(bundle: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(bundle, tmp_path / "bundle"))
    build_variants(folder)
    manifest = load_manifest(folder)
    verify_files(manifest, folder)
    variants = {variant.component: variant for variant in builds_for(manifest, "onnxruntime-cuda")}
    checked = {conversion.component: conversion for conversion in conversions(manifest)}
    for name in TINY_VAE:
        assert checked[name].accepted
        assert (variants[name].precision, variants[name].fused) == ("fp16", {})
        tensors = {**variants[name].inputs, **variants[name].outputs}
        assert {spec.dtype for spec in tensors.values()} == {"float32"}
    assert set(choose_builds(manifest, "onnxruntime-cuda")) == {*manifest.exported}


def test_the_command_adds_one_to_a_bundle_with_plans_and_plans_are_built_of_it(
    app: click.Group, planned_bundle: Path, rtx: PlanLibrary, tiny_vae: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(planned_bundle, tmp_path / "bundle"))
    result = CliRunner().invoke(app, ["add-tiny-vae", str(folder), str(tiny_vae)])
    assert result.exit_code == 0, result.output
    assert result.stdout.split() == [str(folder)]
    assert "tiny_vae_decoder" in result.stderr
    manifest = load_manifest(folder)
    assert {manifest.exported[name].precision for name in TINY_VAE} == {"fp16"}
    choose = partial(choose_builds, backend="tensorrt-rtx", library=rtx.version, target="sm89")
    with pytest.raises(PlanError, match=r"(?s)no plan of its tiny_vae_encoder.*inpaintrt build"):
        choose(manifest)
    report = build_plans(folder, TINY)
    assert [plan.component for plan in report.built] == list(TINY_VAE)
    manifest = load_manifest(folder)
    verify_files(manifest, folder)
    plans = choose(manifest)
    assert [plans[name].profiles for name in TINY_VAE] == [
        ({"sample": (1, 3, 64, 64)},),
        ({"latent_sample": (1, 4, 8, 8)},),
    ]


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    with redirected_hub(monkeypatch, tmp_path) as hub:
        yield hub


def test_a_repository_gives_what_its_folder_gives(hub: Hub, tiny_vae: Path, tmp_path: Path) -> None:
    needed = file_contents(tiny_vae)
    hub.repositories[NAME] = Repository({"main": {**needed, "README.md": b"not needed", "vae.pth": b"nor"}})
    options = SourceOptions(cache_dir=tmp_path / "cache")
    source, expected = open_tiny_vae(NAME, options), open_tiny_vae(str(tiny_vae), options)
    assert asked_files(hub) == set(needed)
    assert source.origin().id == NAME
    assert source.origin().revision is not None
    assert source.origin().sha256 == expected.origin().sha256
    weights, theirs = source.load("tiny_vae").state_dict(), expected.load("tiny_vae").state_dict()
    assert all(torch.equal(weights[name], theirs[name]) for name in theirs)


def test_a_repository_without_such_weights_tells_what_it_has(
    hub: Hub, tiny_vae: Path, tmp_path: Path
) -> None:
    files = file_contents(tiny_vae)
    files["diffusion_pytorch_model.bin"] = files.pop(WEIGHTS)
    hub.repositories[NAME] = Repository({"main": files})
    with pytest.raises(UnsafeWeightsError, match=r"(?s)tiny_vae.*\.bin.*--allow-pickle"):
        open_tiny_vae(NAME, SourceOptions(cache_dir=tmp_path / "cache"))
    allowed = open_tiny_vae(NAME, SourceOptions(cache_dir=tmp_path / "cache", allow_pickle=True))
    assert allowed.origin().sha256 is not None
    other = SourceOptions(cache_dir=tmp_path / "other", allow_pickle=True, variant="fp16")
    with pytest.raises(SourceError, match=r"(?s)no weights of the tiny_vae.*fp16\.safetensors"):
        open_tiny_vae(NAME, other)


def test_a_repository_that_was_not_downloaded_is_not_found_offline(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="not in the cache"):
        open_tiny_vae(NAME, SourceOptions(cache_dir=tmp_path / "cache", local_files_only=True))


def test_the_command_says_what_is_wrong(app: click.Group, bundle: Path, tiny_vae: Path) -> None:
    result = CliRunner().invoke(app, ["add-tiny-vae", str(bundle), str(tiny_vae)])
    assert isinstance(result.exception, SourceError)
