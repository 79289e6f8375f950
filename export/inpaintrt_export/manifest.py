"""The bundle's manifest, and the tokenizer's file that belongs to it."""

from __future__ import annotations

from importlib import metadata
from typing import TYPE_CHECKING, Any

from inpaintrt.bundle import (
    COMPONENT_NAMES,
    FORMAT_VERSION,
    Manifest,
    TokenizerSettings,
    describe_file,
    save_manifest,
)
from inpaintrt_export.families.sd import FAMILY
from inpaintrt_export.tokenizer import END_TOKEN, START_TOKEN, token_id

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from inpaintrt.bundle import Architecture, Build, Checkpoint
    from inpaintrt_export.sources.checkpoint import CheckpointConfigs

__all__ = ["write_manifest", "write_tokenizer"]

_TOKENIZER_FILE = "tokenizer/tokenizer.json"
_LIBRARIES = ("inpaintrt", "torch", "diffusers", "transformers", "onnx", "onnxscript", "onnxruntime")


def write_tokenizer(checkpoint: CheckpointConfigs, folder: Path) -> TokenizerSettings:
    """Write `tokenizer.json` into a bundle.

    Raises:
        SourceError: The checkpoint has no CLIP tokenizer.
    """
    tokenizer, pad_token = checkpoint.tokenizer()
    path = folder / _TOKENIZER_FILE
    path.parent.mkdir()
    path.write_text(tokenizer.to_str(pretty=True) + "\n", encoding="utf-8")
    return TokenizerSettings(
        file=_TOKENIZER_FILE,
        max_length=checkpoint.config("text_encoder")["max_position_embeddings"],
        start_token=token_id(tokenizer, START_TOKEN),
        end_token=token_id(tokenizer, END_TOKEN),
        pad_token=pad_token,
    )


def write_manifest(
    folder: Path,
    *,
    name: str,
    checkpoint: Checkpoint,
    architecture: Architecture,
    scheduler: dict[str, Any],
    tokenizer: TokenizerSettings,
    builds: Mapping[str, Build],
) -> None:
    """Write the manifest of a bundle whose other files are all there."""
    paths = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    manifest = Manifest(
        format_version=FORMAT_VERSION,
        family=FAMILY,
        name=name,
        producer={library: metadata.version(library) for library in _LIBRARIES},
        checkpoint=checkpoint,
        architecture=architecture,
        scheduler=scheduler,
        tokenizer=tokenizer,
        builds=tuple(builds[component] for component in COMPONENT_NAMES),
        files=tuple(describe_file(folder, path) for path in paths),
    )
    save_manifest(manifest, folder)
