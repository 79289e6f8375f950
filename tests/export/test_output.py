import os
import shutil
from collections import namedtuple
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest

from inpaintrt.bundle import MANIFEST_NAME
from inpaintrt.errors import DiskSpaceError, OutputFolderError
from inpaintrt_export.output import check_disk_space, check_output, new_folder

GONE = 2**22 + 1  # above the largest process id that Linux gives


def write_bundle(output: Path, content: str, *, force: bool = False) -> None:
    with new_folder(output, force=force) as folder:
        (folder / MANIFEST_NAME).write_text(content)


def test_folder_appears_whole(tmp_path: Path) -> None:
    output = tmp_path / "deep" / "bundle"
    with new_folder(output, force=False) as folder:
        (folder / MANIFEST_NAME).write_text("new")
        assert not output.exists()
    assert (output / MANIFEST_NAME).read_text() == "new"
    assert [path.name for path in output.parent.iterdir()] == ["bundle"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_nothing_is_left_of_an_interrupted_export(tmp_path: Path, error: type[BaseException]) -> None:
    def interrupted() -> None:
        with new_folder(tmp_path / "bundle", force=False) as folder:
            (folder / "weights").write_text("half")
            raise error

    with pytest.raises(error):
        interrupted()
    assert list(tmp_path.iterdir()) == []
    write_bundle(tmp_path / "bundle", "second try")
    assert (tmp_path / "bundle" / MANIFEST_NAME).read_text() == "second try"


def test_empty_folder_is_taken(tmp_path: Path) -> None:
    (tmp_path / "bundle").mkdir()
    write_bundle(tmp_path / "bundle", "new")
    assert (tmp_path / "bundle" / MANIFEST_NAME).is_file()


def test_older_bundle_is_replaced_only_when_asked(tmp_path: Path) -> None:
    write_bundle(tmp_path / "bundle", "old")
    with pytest.raises(OutputFolderError, match="--force"):
        write_bundle(tmp_path / "bundle", "new")
    assert (tmp_path / "bundle" / MANIFEST_NAME).read_text() == "old"
    write_bundle(tmp_path / "bundle", "new", force=True)
    assert (tmp_path / "bundle" / MANIFEST_NAME).read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_older_bundle_survives_a_failed_replacement(tmp_path: Path) -> None:
    write_bundle(tmp_path / "bundle", "old")
    with pytest.raises(ValueError, match="failed"), new_folder(tmp_path / "bundle", force=True):
        raise ValueError("failed")
    assert (tmp_path / "bundle" / MANIFEST_NAME).read_text() == "old"


@pytest.mark.parametrize("force", [False, True])
def test_foreign_content_is_never_replaced(tmp_path: Path, force: bool) -> None:
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "love.txt").write_text("dear")
    (tmp_path / "file").write_text("mine")
    for name in ("letters", "file"):
        with pytest.raises(OutputFolderError, match="not ours to replace"):
            check_output(tmp_path / name, force=force)
    assert (tmp_path / "letters" / "love.txt").read_text() == "dear"


def test_second_of_two_exports_to_one_folder_is_refused(tmp_path: Path) -> None:
    def overtaken() -> None:
        with new_folder(tmp_path / "bundle", force=False) as first:
            (first / MANIFEST_NAME).write_text("first")
            write_bundle(tmp_path / "elsewhere", "second")
            (tmp_path / "elsewhere").rename(tmp_path / "bundle")

    with pytest.raises(OutputFolderError, match="there is a bundle"):
        overtaken()
    assert (tmp_path / "bundle" / MANIFEST_NAME).read_text() == "second"
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_leftovers_of_a_killed_export_are_removed(tmp_path: Path) -> None:
    leftover = tmp_path / f".bundle.partial-{GONE}-17"
    leftover.mkdir()
    (leftover / "weights").write_text("half")
    write_bundle(tmp_path / "bundle", "new")
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_folder_of_a_running_export_is_left_alone(tmp_path: Path) -> None:
    started = int(psutil.Process().create_time())
    running = tmp_path / f".bundle.partial-{os.getppid()}-{int(psutil.Process(os.getppid()).create_time())}"
    reused = tmp_path / f".bundle.partial-{os.getpid()}-{started - 1000}"
    other = tmp_path / ".other.partial-17-17"
    for folder in (running, reused, other):
        folder.mkdir()
    write_bundle(tmp_path / "bundle", "new")
    assert running.is_dir()
    assert other.is_dir()
    assert not reused.exists()


def test_bundle_that_was_moved_away_by_a_killed_export_comes_back(tmp_path: Path) -> None:
    old = tmp_path / f".bundle.partial-{GONE}-17-old"
    old.mkdir()
    (old / MANIFEST_NAME).write_text("old")
    with pytest.raises(OutputFolderError, match="there is a bundle"):
        write_bundle(tmp_path / "bundle", "new")
    assert (tmp_path / "bundle" / MANIFEST_NAME).read_text() == "old"


def test_too_little_disk_space_is_told_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(2**40, 2**40 - 2**30, 2**30))
    check_disk_space(tmp_path / "not" / "yet" / "there", 2**29)
    with pytest.raises(DiskSpaceError, match=r"(?s)1\.0 GiB free.*expected: 1\.1 GiB"):
        check_disk_space(tmp_path / "bundle", 2**30)
