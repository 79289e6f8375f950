"""What the export makes of SDXL's configurations and tokenizers, and what it refuses."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from bundles import SDXL_COMPONENTS
from inpaintrt.bundle import load_manifest, verify_files
from inpaintrt.errors import SourceError
from inpaintrt_export import export_bundle, import_onnx
from inpaintrt_export.families import SDXL
from inpaintrt_export.manifest import write_tokenizers
from inpaintrt_export.sources.folder import FolderSource

Change = Callable[..., Path]


@pytest.fixture
def change(tiny_sdxl_checkpoint: Path, tmp_path: Path) -> Change:
    """A copy of the tiny checkpoint with changes in one configuration file; None removes an entry."""

    def change(file: str, **changes: Any) -> Path:
        folder = Path(shutil.copytree(tiny_sdxl_checkpoint, tmp_path / "checkpoint"))
        config = json.loads((folder / file).read_text())
        config = {name: value for name, value in {**config, **changes}.items() if value is not None}
        (folder / file).write_text(json.dumps(config))
        return folder

    return change


def refusal(checkpoint: Path) -> str:
    """The message of an export that is refused, which leaves nothing behind."""
    output = checkpoint.parent / "output" / "bundle"
    with pytest.raises(SourceError) as caught:
        export_bundle(checkpoint, output)
    assert not output.exists()
    return str(caught.value)


@pytest.mark.parametrize(
    ("file", "changes", "words"),
    [
        ("text_encoder", {"hidden_size": 24}, ["text encoders do not fit", "24 + 24", "width 40"]),
        ("text_encoder_2", {"hidden_size": 32}, ["text encoders do not fit", "16 + 32", "width 40"]),
        ("text_encoder_2", {"projection_dim": 24}, ["sizes do not fit", "=68", "24 and 5 or 6 times"]),
        ("text_encoder_2", {"projection_dim": None}, ["sizes do not fit", "512 and 5 or 6 times"]),
        ("text_encoder_2", {"architectures": ["CLIPTextModel"]}, ["text_encoder_2", "WithProjection"]),
        ("text_encoder", {"architectures": None}, ["text_encoder", "CLIPTextModel"]),
        ("unet", {"projection_class_embeddings_input_dim": 52}, ["sizes do not fit", "=52", "=8"]),
        ("unet", {"addition_time_embed_dim": None}, ["sizes do not fit", "addition_time_embed_dim=None"]),
        ("unet", {"class_embed_type": "timestep"}, ["needs an input", "class_embed_type=timestep"]),
        ("unet", {"encoder_hid_dim_type": "image_proj"}, ["needs an input", "encoder_hid_dim_type"]),
        ("unet", {"num_class_embeds": 7}, ["needs an input", "num_class_embeds=7"]),
        ("unet", {"addition_embed_type": "image"}, ["needs an input", "addition_embed_type=image"]),
        ("unet", {"in_channels": 8}, ["8 channels", "4 (text-to-image) or 9 (inpainting)"]),
        ("vae", {"latents_mean": [0.0] * 4}, ["scales latents", "latents_mean"]),
    ],
    ids=str,
)
def test_parts_that_do_not_fit_are_refused(
    change: Change, file: str, changes: dict[str, Any], words: list[str]
) -> None:
    message = refusal(change(f"{file}/config.json", **changes))
    for word in words:
        assert word in message


@pytest.mark.parametrize("part", ["text_encoder_2", "vae", "scheduler", "tokenizer", "tokenizer_2"])
def test_a_missing_part_is_named(tiny_sdxl_checkpoint: Path, tmp_path: Path, part: str) -> None:
    folder = Path(shutil.copytree(tiny_sdxl_checkpoint, tmp_path / "checkpoint"))
    shutil.rmtree(folder / part)
    assert part in refusal(folder)


def test_a_base_checkpoint_without_its_first_text_encoder_is_refused(
    tiny_sdxl_checkpoint: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(tiny_sdxl_checkpoint, tmp_path / "checkpoint"))
    shutil.rmtree(folder / "text_encoder")
    message = refusal(folder)
    assert "width 24" in message
    assert "width 40" in message


def test_a_unet_without_pooled_text_is_none_of_sdxl(change: Change) -> None:
    assert "width 16" in refusal(change("unet/config.json", addition_embed_type=None))


def test_the_architecture_is_that_of_the_configurations(
    tiny_sdxl_checkpoint: Path, tiny_sdxl_inpainting_checkpoint: Path, tiny_sdxl_refiner_checkpoint: Path
) -> None:
    found = {
        folder: SDXL.check_architecture(FolderSource(folder, name="test"))
        for folder in (tiny_sdxl_checkpoint, tiny_sdxl_inpainting_checkpoint, tiny_sdxl_refiner_checkpoint)
    }
    base, inpainting, refiner = found.values()
    assert (base.context_width, base.pooled_width, base.size_ids, base.text_layers) == (40, 20, 6, 3)
    assert (base.condition_channels, inpainting.condition_channels) == (0, 5)
    assert (refiner.context_width, refiner.pooled_width, refiner.size_ids, refiner.text_layers) == (
        24,
        20,
        5,
        4,
    )
    assert (base.zeros_for_absent_negative, refiner.zeros_for_absent_negative) == (True, False)
    assert base.latent_scale == 0.13025


def test_a_checkpoint_without_an_index_has_the_pipelines_default(
    tiny_sdxl_refiner_checkpoint: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(tiny_sdxl_refiner_checkpoint, tmp_path / "checkpoint"))
    (folder / "model_index.json").unlink()
    assert SDXL.check_architecture(FolderSource(folder, name="test")).zeros_for_absent_negative


def test_the_scheduler_stays_as_it_is(change: Change) -> None:
    folder = change("scheduler/scheduler_config.json", steps_offset=0)
    assert SDXL.scheduler_of(FolderSource(folder, name="test"))["steps_offset"] == 0


def test_tokenizers_that_are_the_same_are_one_file(tiny_sdxl_bundle: Path) -> None:
    tokenizers = load_manifest(tiny_sdxl_bundle).tokenizers
    assert {name: (each.file, each.pad_token) for name, each in tokenizers.items()} == {
        "text_encoder": ("tokenizer/tokenizer.json", 767),
        "text_encoder_2": ("tokenizer/tokenizer.json", 0),
    }
    assert [path.parent.name for path in tiny_sdxl_bundle.rglob("tokenizer.json")] == ["tokenizer"]


def test_tokenizers_that_differ_are_two_files(tiny_sdxl_checkpoint: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_sdxl_checkpoint, tmp_path / "checkpoint"))
    merges = (folder / "tokenizer_2" / "merges.txt").read_text().splitlines()
    (folder / "tokenizer_2" / "merges.txt").write_text("\n".join(merges[:-1]) + "\n")
    source = FolderSource(folder, name="test")
    (tmp_path / "bundle").mkdir()
    settings = write_tokenizers(source, SDXL.parts(source), tmp_path / "bundle")
    assert {part: each.file for part, each in settings.items()} == {
        "text_encoder": "tokenizer/tokenizer.json",
        "text_encoder_2": "tokenizer_2/tokenizer.json",
    }
    contents = {(tmp_path / "bundle" / each.file).read_text() for each in settings.values()}
    assert len(contents) == 2


def test_a_tokenizer_that_is_named_serves_both_text_encoders(
    tiny_sdxl_checkpoint: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    source = FolderSource(tiny_sdxl_checkpoint, name="test", tokenizer=tiny_checkpoint / "tokenizer")
    settings = write_tokenizers(source, SDXL.parts(source), tmp_path)
    assert {part: (each.file, each.pad_token) for part, each in settings.items()} == {
        "text_encoder": ("tokenizer/tokenizer.json", 767),
        "text_encoder_2": ("tokenizer/tokenizer.json", 0),
    }


def test_a_refiners_bundle_has_one_text_encoder(tiny_sdxl_refiner_bundle: Path) -> None:
    manifest = load_manifest(tiny_sdxl_refiner_bundle)
    verify_files(manifest, tiny_sdxl_refiner_bundle)
    assert list(manifest.exported) == ["text_encoder_2", "vae_encoder", "denoiser", "vae_decoder"]
    assert list(manifest.tokenizers) == ["text_encoder_2"]
    assert manifest.exported["denoiser"].inputs["time_ids"].shape == ("rows", 5)


def test_a_bundle_has_the_inputs_and_outputs_of_its_family(tiny_sdxl_bundle: Path) -> None:
    manifest = load_manifest(tiny_sdxl_bundle)
    verify_files(manifest, tiny_sdxl_bundle)
    assert manifest.family == "sdxl"
    assert tuple(manifest.exported) == SDXL_COMPONENTS
    inputs = {name: spec.shape for name, spec in manifest.exported["denoiser"].inputs.items()}
    assert (inputs["text_embeds"], inputs["time_ids"]) == (("rows", 20), ("rows", 6))
    assert inputs["context"] == ("rows", "tokens", 40)
    outputs = {name: spec.shape for name, spec in manifest.exported["text_encoder_2"].outputs.items()}
    assert outputs == {"last_hidden_state": ("batch", "tokens", 24), "text_embeds": ("batch", 20)}
    for build in manifest.exported.values():
        assert len(build.parity) >= 3


def test_onnx_files_of_sdxl_are_not_imported(tiny_sdxl_checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "onnx" / "unet").mkdir(parents=True)
    shutil.copyfile(tiny_sdxl_checkpoint / "unet" / "config.json", tmp_path / "onnx" / "unet" / "config.json")
    with pytest.raises(SourceError, match=r"(?s)SDXL cannot be imported.*'sdxl'.*inpaintrt export"):
        import_onnx(tmp_path / "onnx", tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


def test_all_parts_are_read_as_they_were_saved(tiny_sdxl_checkpoint: Path) -> None:
    source = FolderSource(tiny_sdxl_checkpoint, name="test")
    ids = torch.tensor([[5, 6, 767, 0, 0]])
    with torch.no_grad():
        encoded: Any = source.load("text_encoder_2")(ids, output_hidden_states=True)
    assert encoded.text_embeds.shape == (1, 20)
    changed = ids.clone()
    changed[0, 4] = 9
    with torch.no_grad():
        again: Any = source.load("text_encoder_2")(changed)
    assert torch.equal(encoded.text_embeds, again.text_embeds), "nothing after the end counts"
