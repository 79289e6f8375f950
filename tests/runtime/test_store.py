"""A bundle's name is looked up in the engine stores, in their order."""

import sys
from pathlib import Path

import pytest

from inpaintrt.bundle import MANIFEST_NAME
from inpaintrt.errors import BundleNotFoundError
from inpaintrt.store import cache_folder, find_bundle, list_bundles, search_path


@pytest.fixture
def stores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home and working folder, and a store named by the environment."""
    for name in ("named", "work", "cache"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("INPAINTRT_ENGINES", str(tmp_path / "named"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path


def _put(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / MANIFEST_NAME).write_text("{}")
    return folder


def test_stores_are_searched_in_order(stores: Path) -> None:
    cached = _put(cache_folder() / "engines" / "mine")
    assert find_bundle("mine") == cached
    local = _put(stores / "work" / "engines" / "mine")
    assert find_bundle("mine").resolve() == local
    named = _put(stores / "named" / "mine")
    assert find_bundle("mine") == named
    here = _put(stores / "work" / "mine")
    assert find_bundle("mine").resolve() == here


@pytest.mark.skipif(sys.platform != "linux", reason="other systems keep caches elsewhere")
def test_the_cache_is_where_the_base_directory_specification_has_it(
    stores: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cache_folder() == stores / "cache" / "inpaintrt"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(stores))
    assert cache_folder() == stores / ".cache" / "inpaintrt"


def test_a_path_is_taken_as_it_is(stores: Path) -> None:
    bundle = _put(stores / "elsewhere" / "mine")
    assert find_bundle(bundle) == bundle
    assert find_bundle(str(bundle)) == bundle


def test_an_unknown_name_lists_the_known_and_the_stores(stores: Path) -> None:
    _put(stores / "named" / "mine")
    with pytest.raises(BundleNotFoundError, match=r"(?s)yours.*mine.*named"):
        find_bundle("yours")


def test_without_the_variable_there_are_three_stores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("INPAINTRT_ENGINES", raising=False)
    assert len(search_path()) == 3


def test_bundles_are_listed_once(stores: Path) -> None:
    _put(stores / "named" / "twice")
    _put(stores / "work" / "engines" / "twice")
    assert list_bundles().count("twice") == 1
