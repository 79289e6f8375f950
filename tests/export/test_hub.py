"""Downloads with huggingface_hub's own client from a Hub on the loopback interface."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file

from bundles import SD_PARTS
from export.hub_client import asked_files, file_contents, redirected_hub
from hub_server import Hub, Repository, serve
from inpaintrt.errors import SourceError, UnsafeWeightsError
from inpaintrt_export.families.sd import check_architecture
from inpaintrt_export.progress import Progress, silent
from inpaintrt_export.sources import SourceOptions, open_source
from inpaintrt_export.sources.folder import FolderSource

NAME = "painter/tiny-inpainting"
TOKEN = "hf_secret"
UNET = "unet/diffusion_pytorch_model.safetensors"
NOT_NEEDED = ("README.md", "safety_checker/a.safetensors", "unet/diffusion_pytorch_model.fp16.safetensors")


@pytest.fixture(scope="module")
def files(tiny_checkpoint: Path) -> dict[str, bytes]:
    return {**file_contents(tiny_checkpoint), **dict.fromkeys(NOT_NEEDED, b"not needed")}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    with redirected_hub(monkeypatch, tmp_path) as hub:
        yield hub


@pytest.fixture
def public(hub: Hub, files: dict[str, bytes]) -> Hub:
    hub.repositories[NAME] = Repository({"main": files})
    return hub


def fetch(cache: Path, progress: Progress = silent, **options: Any) -> FolderSource:
    source = open_source(NAME, SourceOptions(cache_dir=cache, **options), progress)
    assert isinstance(source, FolderSource)
    return source


def test_first_download_brings_what_is_needed_and_no_more(
    public: Hub, files: dict[str, bytes], tmp_path: Path
) -> None:
    shares: list[float | None] = []
    source = fetch(tmp_path, lambda stage, fraction: shares.append(fraction))
    assert asked_files(public) == set(files) - set(NOT_NEEDED)
    assert source.load("vae") is not None
    origin = source.origin()
    assert origin.id == NAME
    assert origin.revision == public.repositories[NAME].commit("main")
    assert shares[-1] == 1
    assert all(share is not None and 0 < share <= 1 for share in shares)


def test_a_text_to_image_repository_is_read_as_its_folder(
    hub: Hub, tiny_text_to_image_checkpoint: Path, tmp_path: Path
) -> None:
    folder = tiny_text_to_image_checkpoint
    paths = [path for path in folder.rglob("*") if path.is_file()]
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}
    hub.repositories[NAME] = Repository({"main": files})
    source, expected = fetch(tmp_path), FolderSource(folder, name=NAME)
    assert check_architecture(source) == check_architecture(expected)
    assert check_architecture(source).condition_channels == 0
    assert source.origin().sha256 == expected.origin().sha256
    for part in SD_PARTS:
        weights, theirs = source.load(part).state_dict(), expected.load(part).state_dict()
        assert all(torch.equal(weights[name], theirs[name]) for name in theirs)


def test_second_download_asks_for_no_file(public: Hub, tmp_path: Path) -> None:
    fetch(tmp_path)
    public.requests.clear()
    fetch(tmp_path)
    assert public.requests
    assert public.downloads() == []


def test_interrupted_download_fetches_only_what_is_missing(
    public: Hub, files: dict[str, bytes], tmp_path: Path
) -> None:
    public.broken = UNET
    with pytest.raises(SourceError, match=r"(?s)cannot be downloaded.*run again"):
        fetch(tmp_path)
    (snapshot,) = tmp_path.glob("models--*/snapshots/*")
    finished = {path.relative_to(snapshot).as_posix() for path in snapshot.rglob("*") if path.is_file()}
    assert finished
    public.broken = None
    public.requests.clear()
    assert fetch(tmp_path).load("unet") is not None
    assert asked_files(public) == set(files) - set(NOT_NEEDED) - finished
    assert UNET in asked_files(public)


def test_interrupted_download_can_be_run_again(public: Hub, tmp_path: Path) -> None:
    def interrupt(stage: str, fraction: float | None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(tmp_path, interrupt)
    assert fetch(tmp_path).load("unet") is not None


def test_broken_connection_is_taken_up_again_within_a_run(
    public: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1024)
    public.cut_after = 300_000
    assert fetch(tmp_path).load("unet") is not None
    assert sorted(public.ranges) == ["bytes=299008-", "bytes=598016-"]


def test_server_that_does_not_answer_is_told(public: Hub, tmp_path: Path) -> None:
    public.answers = False
    with pytest.raises(SourceError, match=r"(?s)cannot be downloaded.*connection"):
        fetch(tmp_path)


def test_server_that_is_gone_is_told(public: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # the port of "discard": nobody listens
    with pytest.raises(SourceError, match=r"(?s)not in the cache.*not reached.*connection"):
        fetch(tmp_path)


def test_revision_is_taken_by_branch_and_by_commit(hub: Hub, files: dict[str, bytes], tmp_path: Path) -> None:
    hub.repositories[NAME] = repository = Repository({"main": {}, "better": files})
    for revision in ("better", str(repository.commit("better"))):
        source = fetch(tmp_path / revision, revision=revision)
        assert source.origin().revision == repository.commit("better")


def test_unknown_revision_is_named(public: Hub, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"(?s)no such revision.*no-such-branch"):
        fetch(tmp_path, revision="no-such-branch")


def test_unknown_repository_is_named(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=rf"(?s)no {NAME} on the Hub.*private"):
        fetch(tmp_path)


def test_private_repository_wants_its_token(hub: Hub, files: dict[str, bytes], tmp_path: Path) -> None:
    hub.repositories[NAME] = Repository({"main": files}, token=TOKEN)
    with pytest.raises(SourceError, match="HF_TOKEN"):
        fetch(tmp_path)
    with pytest.raises(SourceError, match="HF_TOKEN"):
        fetch(tmp_path, token="hf_wrong")
    assert fetch(tmp_path, token=TOKEN).load("vae") is not None


def test_gated_repository_wants_its_conditions_accepted(
    hub: Hub, files: dict[str, bytes], tmp_path: Path
) -> None:
    hub.repositories[NAME] = Repository({"main": files}, token=TOKEN, gated=True)
    with pytest.raises(SourceError, match=r"(?s)accept conditions.*HF_TOKEN"):
        fetch(tmp_path)


def test_offline_without_a_cache_says_so(public: Hub, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"(?s)not in the cache.*--offline"):
        fetch(tmp_path, local_files_only=True)
    assert public.requests == []


def test_offline_with_a_cache_asks_nothing(public: Hub, tmp_path: Path) -> None:
    fetch(tmp_path)
    public.requests.clear()
    assert fetch(tmp_path, local_files_only=True).load("unet") is not None
    assert public.requests == []


def test_server_that_is_gone_does_not_matter_with_a_cache(public: Hub, tmp_path: Path) -> None:
    fetch(tmp_path)
    public.repositories.clear()
    assert fetch(tmp_path).load("vae") is not None


def test_pickled_weights_on_the_hub_are_refused_and_not_downloaded(
    hub: Hub, files: dict[str, bytes], tmp_path: Path
) -> None:
    pickled = {
        path.replace(".safetensors", ".bin") if path.startswith("vae/") else path: data
        for path, data in files.items()
    }
    hub.repositories[NAME] = Repository({"main": pickled})
    with pytest.raises(UnsafeWeightsError, match=r"(?s)vae.*\.bin.*--allow-pickle"):
        fetch(tmp_path)
    assert not any(path.endswith(".bin") for path in hub.downloads())


def test_pickled_weights_on_the_hub_are_read_when_allowed(
    hub: Hub, files: dict[str, bytes], tiny_checkpoint: Path, tmp_path: Path
) -> None:
    path = "vae/diffusion_pytorch_model.safetensors"
    torch.save(load_file(tiny_checkpoint / path), tmp_path / "weights.bin")
    changed = {name: data for name, data in files.items() if name != path}
    changed["vae/diffusion_pytorch_model.bin"] = (tmp_path / "weights.bin").read_bytes()
    hub.repositories[NAME] = Repository({"main": changed})
    assert fetch(tmp_path, allow_pickle=True).load("vae") is not None


def test_variant_that_is_there_instead_is_named(hub: Hub, files: dict[str, bytes], tmp_path: Path) -> None:
    halves = {path.replace(".safetensors", ".fp16.safetensors"): data for path, data in files.items()}
    hub.repositories[NAME] = Repository({"main": halves})
    with pytest.raises(SourceError, match=r"(?s)model\.fp16\.safetensors.*--variant"):
        fetch(tmp_path)
    assert fetch(tmp_path, variant="fp16").load("vae") is not None


def test_repository_without_weights_is_named(hub: Hub, tmp_path: Path) -> None:
    hub.repositories[NAME] = Repository({"main": {"README.md": b"hello"}})
    with pytest.raises(SourceError, match="no weights at all"):
        fetch(tmp_path)


def test_server_of_the_environment_is_asked(files: dict[str, bytes], tmp_path: Path) -> None:
    """The command, in a process of its own: HF_ENDPOINT, HF_TOKEN and HF_HUB_CACHE are respected."""
    with serve() as hub:
        hub.repositories[NAME] = Repository({"main": {**files, "unet/config.json": b"{}"}}, token=TOKEN)
        settings = {"HF_ENDPOINT": hub.endpoint, "HF_TOKEN": TOKEN, "HF_HUB_CACHE": str(tmp_path / "hub")}
        result = subprocess.run(
            [Path(sys.executable).with_name("inpaintrt"), "export", NAME, "-o", tmp_path / "bundle"],
            env={**os.environ, **settings},
            capture_output=True,
            text=True,
            check=False,
        )
    assert result.returncode == 1
    assert "UNet2DConditionModel" in result.stderr  # the empty configuration arrived, and was refused
    assert hub.downloads()
    assert any((tmp_path / "hub").iterdir())
    assert not (tmp_path / "bundle").exists()
