"""A tiny VAE that tests share, and bundles that have it beside their own VAE."""

from __future__ import annotations

import shutil
import warnings
from typing import TYPE_CHECKING

import msgspec

from bundles import made_once, make_tiny_bundle, source_key
from inpaintrt.bundle import TINY_VAE, load_manifest, save_manifest

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["make_bundle_with_tiny_vae", "make_tiny_vae"]

_FIRST = "tiny-text-to-image"


def make_tiny_vae(cache: Path) -> Path:
    """The folder of a small `AutoencoderTiny` with random weights."""
    folder = cache / f"tiny-taesd-{source_key()}"
    with made_once(folder) as new, warnings.catch_warnings():
        if new is not None:
            warnings.simplefilter("ignore")  # of the libraries that are imported here
            from inpaintrt_export.sources.synthetic import save_tiny_vae

            save_tiny_vae("synthetic:tiny-taesd", new)
    return folder


def make_bundle_with_tiny_vae(cache: Path, name: str = _FIRST) -> Path:
    """A tiny bundle with `make_tiny_vae` as its second VAE.

    It is exported for one bundle; the others get copies: its networks do not depend on the checkpoint.
    """
    folder = cache / f"{name}-with-tiny-vae-{source_key()}"
    first = None if name == _FIRST else make_bundle_with_tiny_vae(cache)
    with made_once(folder) as new, warnings.catch_warnings():
        if new is not None:
            warnings.simplefilter("ignore")
            shutil.copytree(make_tiny_bundle(cache, name=name), new, dirs_exist_ok=True)
            if first is None:
                from inpaintrt_export import add_tiny_vae

                add_tiny_vae(new, make_tiny_vae(cache))
            else:
                _copy_tiny_vae(first, new)
    return folder


def _copy_tiny_vae(first: Path, new: Path) -> None:
    theirs, manifest = load_manifest(first), load_manifest(new)
    builds = tuple(theirs.exported[name] for name in TINY_VAE)
    for name in TINY_VAE:
        shutil.copytree(first / name, new / name)
    paths = {path for build in builds for path in build.files}
    files = tuple(entry for entry in theirs.files if entry.path in paths)
    changed = msgspec.structs.replace(
        manifest,
        builds=(*manifest.builds, *builds),
        files=(*manifest.files, *files),
        tiny_vae=theirs.tiny_vae,
    )
    save_manifest(changed, new)
