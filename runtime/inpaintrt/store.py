"""Where bundles are found by name."""

from __future__ import annotations

import os
from pathlib import Path

from platformdirs import user_cache_path

from inpaintrt.bundle import MANIFEST_NAME
from inpaintrt.errors import BundleNotFoundError

__all__ = ["cache_folder", "find_bundle", "list_bundles", "search_path"]


def cache_folder() -> Path:
    """The folder of what can be made again, in the user's cache: on Linux `$XDG_CACHE_HOME/inpaintrt`."""
    return user_cache_path("inpaintrt", appauthor=False, opinion=False)


def search_path() -> tuple[Path, ...]:
    """The engine stores, first match first: $INPAINTRT_ENGINES, ./engines, the user's cache, the package."""
    named = os.environ.get("INPAINTRT_ENGINES")
    package = Path(__file__).parent
    # In a source checkout the packaged store is the checkout's own engine store.
    packaged = package / "engines" if (package / "engines").is_dir() else package.parents[1] / "engines"
    return (*([Path(named)] if named else []), Path("engines"), cache_folder() / "engines", packaged)


def find_bundle(name: str | os.PathLike[str]) -> Path:
    """The folder of a bundle: a path to one, or the name of one in the engine stores.

    Raises:
        BundleNotFoundError: There is none; the message lists where it was looked for and what is there.
    """
    stores = search_path()
    for candidate in [Path(name), *(store / name for store in stores)]:
        if (candidate / MANIFEST_NAME).is_file():
            return candidate
    raise BundleNotFoundError(
        "there is no such bundle",
        received=os.fspath(name),
        expected=f"a folder with a {MANIFEST_NAME}, or one of: {', '.join(list_bundles()) or 'none found'}",
        hint=f"looked in {', '.join(map(str, stores))}; export one with `inpaintrt export SOURCE -o DIR`",
    )


def list_bundles() -> tuple[str, ...]:
    """Names of all bundles in the engine stores, sorted."""
    found = {manifest.parent.name for store in search_path() for manifest in store.glob(f"*/{MANIFEST_NAME}")}
    return tuple(sorted(found))
