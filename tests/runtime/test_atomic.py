"""A file is written whole or not at all."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from inpaintrt.atomic import atomic_write


@pytest.mark.parametrize("durable", [False, True])
def test_the_new_content_replaces_the_old_one(tmp_path: Path, durable: bool) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with atomic_write(path, durable=durable) as partial:
        partial.write_bytes(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def _fail_halfway(path: Path) -> None:
    with atomic_write(path) as partial:
        partial.write_bytes(b"ne")
        raise RuntimeError


def test_what_fails_changes_nothing_and_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(RuntimeError):
        _fail_halfway(path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_cannot_be_replaced_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    path.mkdir()
    with pytest.raises(OSError, match="folder"), atomic_write(path) as partial:
        partial.write_bytes(b"new")
    assert list(tmp_path.iterdir()) == [path]


def test_threads_do_not_mix_what_they_write(tmp_path: Path) -> None:
    path = tmp_path / "file"
    contents = [bytes([value]) * 100_000 for value in range(16)]

    def write(content: bytes) -> None:
        with atomic_write(path) as partial:
            partial.write_bytes(content)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, contents))
    assert path.read_bytes() in contents
    assert list(tmp_path.iterdir()) == [path]
