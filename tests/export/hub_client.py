"""What tests of downloads share: a Hub that huggingface_hub asks, and what it was asked for."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from huggingface_hub import constants

from hub_server import Hub, serve

__all__ = ["asked_files", "file_contents", "redirected_hub"]


@contextmanager
def redirected_hub(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Iterator[Hub]:
    """A Hub that huggingface_hub asks in this process, without a token of the machine's."""
    with serve() as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)
        template = hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(folder / "no-token"))
        monkeypatch.delenv("HF_TOKEN", raising=False)
        yield hub


def file_contents(folder: Path) -> dict[str, bytes]:
    """The files of a checkpoint by their paths in a repository."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def asked_files(hub: Hub) -> set[str]:
    """The files whose content was asked for, by their paths in the repository."""
    return {path.partition("/resolve/")[2].partition("/")[2] for path in hub.downloads()}
