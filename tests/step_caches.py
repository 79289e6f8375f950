"""Tiny bundles with step caching, which tests share."""

from __future__ import annotations

import shutil
import warnings
from typing import TYPE_CHECKING

from bundles import made_once, make_tiny_bundle, source_key

if TYPE_CHECKING:
    from pathlib import Path

    from inpaintrt.bundle import Precision

__all__ = ["make_bundle_with_step_cache"]


def make_bundle_with_step_cache(
    cache: Path, name: str = "tiny", *, branch: int = 0, precision: Precision = "fp32"
) -> Path:
    """A tiny bundle whose denoiser is cut for step caching; its networks are not exported again."""
    folder = cache / f"{name}-cut-at-{branch}-{precision}-{source_key()}"
    with made_once(folder) as new, warnings.catch_warnings():
        if new is not None:
            warnings.simplefilter("ignore")  # of the libraries that are imported here
            from inpaintrt_export import add_step_cache

            shutil.copytree(make_tiny_bundle(cache, precision, name), new, dirs_exist_ok=True)
            add_step_cache(new, cache_branch_id=branch)
    return folder
