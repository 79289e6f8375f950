"""Where a bundle and its checkpoint come from."""

import shutil
from pathlib import Path

import pytest

from benchmarks.odd import BUNDLE, CHECKPOINT
from inpaintrt.errors import BundleNotFoundError, ParameterError, SourceError
from inpaintrt_bench.runners.sources import find_sources


def find(bundle: str | None, checkpoint: str | None, work: Path) -> tuple[Path, Path | None]:
    return find_sources(bundle, checkpoint, work, precision="fp32", progress=lambda _: None)


def test_the_demo_is_the_default_with_its_checkpoint(tmp_path: Path) -> None:
    bundle, checkpoint = find(None, None, tmp_path)
    assert bundle.resolve() == BUNDLE
    assert checkpoint == CHECKPOINT


def test_another_bundle_has_no_checkpoint_unless_it_is_named(tiny_bundle: Path, tmp_path: Path) -> None:
    assert find(str(tiny_bundle), None, tmp_path) == (tiny_bundle, None)
    assert find(str(tiny_bundle), str(CHECKPOINT), tmp_path) == (tiny_bundle, CHECKPOINT)


def test_a_synthetic_checkpoint_is_drawn_once(tiny_bundle: Path, tmp_path: Path) -> None:
    exported = shutil.copytree(tiny_bundle, tmp_path / "bundles" / "tiny-fp32")
    told: list[str] = []
    for _ in range(2):
        bundle, checkpoint = find_sources(
            None, "synthetic:tiny", tmp_path, precision="fp32", progress=told.append
        )
        assert bundle == exported
        assert checkpoint is not None
        assert (checkpoint / "unet").is_dir()
    assert len(told) == 1


def test_a_checkpoint_without_a_bundle_is_exported(tmp_path: Path) -> None:
    checkpoint = tmp_path / "incomplete"
    checkpoint.mkdir()
    (checkpoint / "model_index.json").write_text("{}")
    with pytest.raises(SourceError, match="incomplete"):
        find(None, str(checkpoint), tmp_path)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="diffusers folder"):
        find(None, str(tmp_path), tmp_path)
    with pytest.raises(BundleNotFoundError, match="nowhere"):
        find("nowhere", None, tmp_path)
