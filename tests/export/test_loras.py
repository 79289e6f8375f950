"""LoRAs fused into a checkpoint before it is exported."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch

from inpaintrt import InpaintPipeline
from inpaintrt.backends import open_engine
from inpaintrt.bundle import FusedLora
from inpaintrt.errors import LoraMismatchError
from inpaintrt.lora import open_loras
from inpaintrt_export.component import ExportedCheckpoint, export_part
from inpaintrt_export.exporter import export_bundle
from inpaintrt_export.families import find_family
from inpaintrt_export.loras import with_loras
from inpaintrt_export.sources.folder import FolderSource
from lora_files import adaptable, make_lora, save_lora


@pytest.fixture(scope="module")
def source(tiny_checkpoint: Path) -> FolderSource:
    return FolderSource(tiny_checkpoint, name="tiny")


@pytest.fixture(scope="module")
def lora(source: FolderSource, tmp_path_factory: pytest.TempPathFactory) -> Path:
    modules = adaptable(source.load("unet"), source.load("text_encoder"))
    path = tmp_path_factory.mktemp("lora") / "style.safetensors"
    return save_lora(path, *make_lora("kohya", modules))


def test_an_exported_part_changes_as_one_that_is_changed_when_it_is_loaded(
    source: FolderSource, lora: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    fused = with_loras(source, open_loras([(lora, 0.6)]))
    family = find_family(fused.config("unet"))
    exported = ExportedCheckpoint(fused, family, family.check_architecture(fused), tmp_path, "fp32")
    build = export_part("text_encoder", exported, lambda _: None)["text_encoder"]
    inputs = {"input_ids": np.arange(77)[None] * 3, "clip_skip": np.array([1])}
    changed = open_engine("onnxruntime", tmp_path, build).run(inputs)["last_hidden_state"]
    plain, loaded = (
        InpaintPipeline.from_bundle(tiny_bundle, loras=loras).stages.engines["text_encoder"].run(inputs)
        for loras in ([], [(lora, 0.6)])
    )
    assert np.abs(changed - plain["last_hidden_state"]).max() > 0.1
    np.testing.assert_allclose(changed, loaded["last_hidden_state"], atol=1e-5)


def test_unet_is_changed_and_the_vae_is_not(source: FolderSource, lora: Path) -> None:
    fused = with_loras(source, open_loras([lora]))
    for part, changed in (("unet", True), ("vae", False)):
        pairs = zip(fused.load(part).parameters(), source.load(part).parameters(), strict=True)  # type: ignore[arg-type]
        assert any(not torch.equal(ours, theirs) for ours, theirs in pairs) is changed


def test_origin_tells_what_changed_the_weights(source: FolderSource, lora: Path) -> None:
    origin = with_loras(source, open_loras([(lora, 0.5), lora])).origin()
    digest = hashlib.sha256(lora.read_bytes()).hexdigest()
    assert origin.id == "tiny"
    assert origin.loras == tuple(
        FusedLora(name=lora.name, sha256=digest, scale=scale) for scale in (0.5, 1.0)
    )


def test_without_loras_the_checkpoint_stays_what_it_is(source: FolderSource) -> None:
    assert with_loras(source, ()) is source


@pytest.mark.parametrize(
    "name", ["lora_unet_foo", "lora_te_text_model_encoder_layers_9_mlp_fc1", "lora_te2_x"]
)
def test_a_lora_for_another_checkpoint_is_refused_before_anything_is_written(
    tiny_checkpoint: Path, tmp_path: Path, name: str
) -> None:
    lora = save_lora(tmp_path / "style.safetensors", {f"{name}.diff": torch.ones(1)})
    with pytest.raises(LoraMismatchError) as caught:
        export_bundle(tiny_checkpoint, tmp_path / "bundle", loras=[lora])
    assert caught.value.received == f"{name}.diff"
    assert [path.name for path in tmp_path.iterdir()] == ["style.safetensors"]
