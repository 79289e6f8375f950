"""Single files of SDXL: the tiny checkpoints under the names of its first code base."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from bundles import make_tiny_checkpoint
from export.original_names import Weights, read_parts, save, xl_to_original
from inpaintrt.errors import SourceError
from inpaintrt_export.families.sdxl import check_architecture
from inpaintrt_export.sources import SourceOptions, open_source
from inpaintrt_export.sources import single_file as module
from inpaintrt_export.sources.folder import FolderSource
from inpaintrt_export.sources.layouts import LAYOUTS
from inpaintrt_export.sources.single_file import SingleFileSource

NAMES = ("tiny-sdxl", "tiny-sdxl-inpaint", "tiny-sdxl-refiner")
FIRST = "conditioner.embedders.0."
SECOND = "conditioner.embedders.1.model."


@pytest.fixture(autouse=True)
def layouts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of the tiny checkpoints' context widths are known."""
    known = {40: (LAYOUTS["tiny-sdxl"], LAYOUTS["tiny-sdxl-inpaint"]), 24: (LAYOUTS["tiny-sdxl-refiner"],)}
    for width, layouts in known.items():
        monkeypatch.setitem(module.LAYOUTS_BY_CONTEXT_WIDTH, width, layouts)


@pytest.fixture(params=NAMES)
def checkpoint(request: pytest.FixtureRequest, bundle_cache: Path) -> Path:
    return make_tiny_checkpoint(bundle_cache, request.param)


@pytest.fixture
def base(tiny_sdxl_checkpoint: Path) -> Weights:
    return xl_to_original(tiny_sdxl_checkpoint)


def write(weights: Weights, checkpoint: Path, folder: Path, **metadata: str) -> Path:
    """The file, with the folder of the first tokenizer that there is beside it."""
    tokenizers = sorted(checkpoint.glob("tokenizer*"))
    shutil.copytree(tokenizers[0], folder / "tokenizer", dirs_exist_ok=True)
    save(weights, folder / "checkpoint.safetensors", metadata or None)
    return folder / "checkpoint.safetensors"


def test_a_file_is_its_folder(checkpoint: Path, tmp_path: Path) -> None:
    """Weight by weight and setting by setting."""
    source = open_source(str(write(xl_to_original(checkpoint), checkpoint, tmp_path)), SourceOptions())
    assert isinstance(source, SingleFileSource)
    folder = FolderSource(checkpoint, name="folder")
    parts = read_parts(checkpoint)
    for part, weights in parts.items():
        assert source.has(part)
        found = source.load(part).state_dict()
        expected = {name.removeprefix("text_model."): weight for name, weight in weights.items()}
        assert {name.removeprefix("text_model.") for name in found} == set(expected)
        for name, weight in found.items():
            assert torch.equal(weight, expected[name.removeprefix("text_model.")]), name
    assert source.has("text_encoder") == ("text_encoder" in parts)
    assert check_architecture(source) == check_architecture(folder)
    assert source.scheduler_config().items() <= folder.scheduler_config().items()
    for part in parts:
        if part.startswith("text_encoder"):
            assert source.tokenizer(part)[1] == folder.tokenizer(part)[1]


def test_one_tokenizer_pads_for_each_text_encoder(
    base: Weights, tiny_sdxl_checkpoint: Path, tmp_path: Path
) -> None:
    source = SingleFileSource(write(base, tiny_sdxl_checkpoint, tmp_path))
    assert [source.tokenizer(part)[1] for part in ("text_encoder", "text_encoder_2")] == [767, 0]


@pytest.mark.parametrize(
    ("part", "prefix"),
    [("text_encoder", FIRST), ("text_encoder_2", SECOND), ("vae", "first_stage_model.")],
)
def test_a_missing_part_is_named(
    base: Weights, tiny_sdxl_checkpoint: Path, tmp_path: Path, part: Any, prefix: str
) -> None:
    kept = {name: weight for name, weight in base.items() if not name.startswith(prefix)}
    with pytest.raises(SourceError, match=f"no {part} in"):
        SingleFileSource(write(kept, tiny_sdxl_checkpoint, tmp_path)).load(part)


@pytest.mark.parametrize(
    ("part", "name"),
    [
        ("text_encoder_2", f"{SECOND}text_projection"),
        ("text_encoder_2", f"{SECOND}ln_final.bias"),
        ("text_encoder", f"{FIRST}transformer.text_model.final_layer_norm.bias"),
        ("unet", "model.diffusion_model.label_emb.0.0.weight"),
    ],
)
def test_a_missing_weight_is_refused(
    base: Weights, tiny_sdxl_checkpoint: Path, tmp_path: Path, part: Any, name: str
) -> None:
    kept = {key: weight for key, weight in base.items() if key != name}
    assert len(kept) == len(base) - 1
    with pytest.raises(SourceError, match=f"the {part} in .* cannot be loaded"):
        SingleFileSource(write(kept, tiny_sdxl_checkpoint, tmp_path)).load(part)


def test_a_file_predicts_what_it_says(base: Weights, tiny_sdxl_checkpoint: Path, tmp_path: Path) -> None:
    path = write(base, tiny_sdxl_checkpoint, tmp_path)
    assert check_architecture(SingleFileSource(path)).prediction_type == "epsilon"
    write(base, tiny_sdxl_checkpoint, tmp_path, **{"modelspec.prediction_type": "v"})
    assert check_architecture(SingleFileSource(path)).prediction_type == "v_prediction"


def test_the_published_sizes_have_layouts() -> None:
    known = module.LAYOUTS_BY_CONTEXT_WIDTH
    assert [layout.parts["unet"]["in_channels"] for layout in known[2048]] == [4, 9]
    (refiner,) = known[1280]
    assert "text_encoder" not in refiner.parts
