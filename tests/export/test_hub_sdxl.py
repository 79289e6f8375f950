"""Downloads of SDXL's repositories from a Hub on the loopback interface."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from export.hub_client import asked_files, file_contents, redirected_hub
from hub_server import Hub, Repository
from inpaintrt.errors import SourceError, UnsafeWeightsError
from inpaintrt_export.families import SDXL
from inpaintrt_export.sources import SourceOptions, open_source
from inpaintrt_export.sources.folder import FolderSource

NAME = "painter/tiny-sdxl"
SECOND = "text_encoder_2/model.safetensors"
NOT_NEEDED = ("sd_xl_base_1.0.safetensors", "vae_1_0/config.json", "text_encoder_2/model.fp16.safetensors")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    with redirected_hub(monkeypatch, tmp_path) as hub:
        yield hub


def fetch(cache: Path, **options: Any) -> FolderSource:
    source = open_source(NAME, SourceOptions(cache_dir=cache, **options))
    assert isinstance(source, FolderSource)
    return source


@pytest.mark.parametrize("kind", ["base", "refiner"])
def test_a_repository_gives_what_its_folder_gives(
    hub: Hub,
    tiny_sdxl_checkpoint: Path,
    tiny_sdxl_refiner_checkpoint: Path,
    tmp_path: Path,
    kind: str,
) -> None:
    folder = tiny_sdxl_checkpoint if kind == "base" else tiny_sdxl_refiner_checkpoint
    needed = file_contents(folder)
    hub.repositories[NAME] = Repository({"main": {**needed, **dict.fromkeys(NOT_NEEDED, b"not needed")}})
    source, expected = fetch(tmp_path), FolderSource(folder, name=NAME)
    asked = asked_files(hub)  # of files with the same content, one
    assert asked <= set(needed)
    assert {needed[path] for path in asked} == set(needed.values())
    assert SDXL.check_architecture(source) == SDXL.check_architecture(expected)
    assert SDXL.parts(source) == SDXL.parts(expected)
    assert ("text_encoder" in SDXL.parts(source)) == (kind == "base")
    assert source.origin().sha256 == expected.origin().sha256
    for part in SDXL.parts(source):
        weights, theirs = source.load(part).state_dict(), expected.load(part).state_dict()
        assert all(torch.equal(weights[name], theirs[name]) for name in theirs)
        if part.startswith("text_encoder"):
            assert source.tokenizer(part)[1] == expected.tokenizer(part)[1]


def test_the_variant_of_the_second_text_encoder_that_is_there_instead_is_named(
    hub: Hub, tiny_sdxl_checkpoint: Path, tmp_path: Path
) -> None:
    files = file_contents(tiny_sdxl_checkpoint)
    files["text_encoder_2/model.fp16.safetensors"] = files.pop(SECOND)
    hub.repositories[NAME] = Repository({"main": files})
    with pytest.raises(SourceError, match=r"(?s)text_encoder_2.*model\.fp16\.safetensors.*--variant"):
        fetch(tmp_path)


def test_a_pickled_second_text_encoder_is_refused(
    hub: Hub, tiny_sdxl_checkpoint: Path, tmp_path: Path
) -> None:
    files = file_contents(tiny_sdxl_checkpoint)
    files["text_encoder_2/pytorch_model.bin"] = files.pop(SECOND)
    hub.repositories[NAME] = Repository({"main": files})
    with pytest.raises(UnsafeWeightsError, match=r"(?s)text_encoder_2.*\.bin.*--allow-pickle"):
        fetch(tmp_path)
    assert not any(path.endswith(".bin") for path in asked_files(hub))
