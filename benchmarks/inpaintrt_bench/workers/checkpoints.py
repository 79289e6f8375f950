"""Checkpoints for older libraries."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from safetensors.numpy import load_file, save_file

__all__ = ["readable_checkpoint"]

_PREFIX = "text_model."


def readable_checkpoint(checkpoint: Path, folder: Path) -> Path:
    """Copy a checkpoint so that transformers 4 reads its text encoder.

    transformers 5 writes the layers without the prefix `text_model.`. transformers 4 takes such weights for
    missing ones and draws random ones, with no more than a warning.

    Args:
        checkpoint: A diffusers folder.
        folder: Where to make the copy; large files are links where the file system has them.
    """
    shutil.copytree(checkpoint, folder, copy_function=_link)
    for path in (folder / "text_encoder").glob("*.safetensors"):
        weights = load_file(path)
        if not any(name.startswith(_PREFIX) for name in weights):
            path.unlink()
            save_file({_PREFIX + name: weight for name, weight in weights.items()}, path, {"format": "pt"})
    return folder


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
