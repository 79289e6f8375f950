"""The export as a whole: interruptions, the precision of the VAE, and what is reported."""

import dataclasses
import shutil
import sys
from collections import namedtuple
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from bundles import parts_exported_once
from inpaintrt.bundle import PRECISIONS, load_manifest, verify_files
from inpaintrt.errors import DiskSpaceError, OutputFolderError, ParityError
from inpaintrt_export import export_bundle
from inpaintrt_export.component import stages


class Interrupt:
    """A progress callback that stops the export at a stage, and remembers what it was told."""

    def __init__(self, stage: str) -> None:
        self.stage = stage
        self.reports: list[tuple[str, float | None]] = []

    def __call__(self, stage: str, fraction: float | None) -> None:
        self.reports.append((stage, fraction))
        if stage == self.stage:
            raise KeyboardInterrupt


@pytest.mark.parametrize("stage", ["text_encoder: loading", "text_encoder: comparing"])
def test_interrupted_export_leaves_nothing(tiny_checkpoint: Path, tmp_path: Path, stage: str) -> None:
    with pytest.raises(KeyboardInterrupt):
        export_bundle(tiny_checkpoint, tmp_path / "bundle", progress=Interrupt(stage))
    assert list(tmp_path.iterdir()) == []


def test_failed_comparison_leaves_nothing(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    perfect = dataclasses.replace(PRECISIONS["fp32"], tolerance=0.0)
    monkeypatch.setitem(PRECISIONS, "fp32", perfect)
    with pytest.raises(ParityError, match="text_encoder does not compute"):
        export_bundle(tiny_checkpoint, tmp_path / "bundle")
    assert list(tmp_path.iterdir()) == []


def test_occupied_output_is_refused_before_the_checkpoint_is_opened(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputFolderError):
        export_bundle("no-such-checkpoint", tmp_path)


@pytest.mark.parametrize(("precision", "needed"), [("fp32", "4.0"), ("fp16", "2.2")])
def test_disk_space_of_the_real_architecture_is_known_beforehand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str, needed: str
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(2**40, 2**40 - 2**30, 2**30))
    with pytest.raises(DiskSpaceError, match=rf"(?s)1\.0 GiB free.*expected: {needed}"):
        export_bundle("synthetic:sd15-inpaint", tmp_path / "bundle", precision=precision)
    assert list(tmp_path.iterdir()) == []


def test_vae_that_overflows_stays_in_float32_in_a_half_bundle(
    tiny_checkpoint: Path, bundle_cache: Path, tmp_path: Path
) -> None:
    """And the same export tells its stages in order, and replaces an older bundle when asked."""
    checkpoint, output = tmp_path / "checkpoint", tmp_path / "bundle"
    shutil.copytree(tiny_checkpoint, checkpoint)
    path = checkpoint / "vae" / "diffusion_pytorch_model.safetensors"
    weights = load_file(path)
    for index in (0, 1):
        weights[f"decoder.mid_block.resnets.{index}.conv2.weight"] *= 1e6
    save_file(weights, path, {"format": "pt"})
    output.mkdir()
    (output / "bundle.json").write_text("{}")
    progress = Interrupt("never")
    with parts_exported_once(bundle_cache):  # all but the VAE are those of another test's bundle
        export_bundle(checkpoint, output, precision="fp16", force=True, progress=progress)
    manifest = load_manifest(output)
    verify_files(manifest, output)
    found = {name: exported.precision for name, exported in manifest.exported.items()}
    assert found == {
        "text_encoder": "fp16",
        "vae_encoder": "fp32",
        "denoiser": "fp16",
        "vae_decoder": "fp32",
    }
    costs = manifest.export_costs
    assert list(costs) == ["text_encoder", "vae", "unet"]
    assert all(cost.seconds > 0 for cost in costs.values())
    if sys.platform == "linux":
        peaks = [cost.peak_bytes or 0 for cost in costs.values()]
        assert peaks == sorted(peaks)
        assert peaks[0] > 50e6
    of_vae = stages(("vae",))
    assert tuple(stage for stage, _ in progress.reports if stage in of_vae) == of_vae
    fractions = [fraction for _, fraction in progress.reports]
    assert fractions[0] == 0
    assert fractions[-1] == 1
    assert fractions == sorted(fractions, key=lambda fraction: fraction or 0)
