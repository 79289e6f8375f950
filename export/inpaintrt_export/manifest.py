"""The bundle's manifest, and the tokenizers' files that belong to it."""

from __future__ import annotations

from importlib import metadata
from typing import TYPE_CHECKING, Any

from inpaintrt.bundle import (
    COMPONENT_NAMES,
    FORMAT_VERSION,
    TEXT_ENCODERS,
    Manifest,
    TokenizerSettings,
    describe_file,
    save_manifest,
)
from inpaintrt_export.tokenizer import END_TOKEN, START_TOKEN, token_id

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from inpaintrt.bundle import Architecture, Build, Checkpoint, ExportCost
    from inpaintrt_export.sources.checkpoint import CheckpointConfigs, Part

__all__ = ["write_manifest", "write_tokenizers"]

_LIBRARIES = ("inpaintrt", "torch", "diffusers", "transformers", "onnx", "onnxscript", "onnxruntime")


def write_tokenizers(
    checkpoint: CheckpointConfigs, parts: Sequence[Part], folder: Path
) -> dict[str, TokenizerSettings]:
    """Write `tokenizer.json` into a bundle, once for text encoders that share one.

    Returns:
        What surrounds the tokenizer's file, for each text encoder.

    Raises:
        SourceError: The checkpoint has no CLIP tokenizer.
    """
    encoders = [part for part in parts if part in TEXT_ENCODERS]
    files: dict[str, str] = {}
    settings: dict[str, TokenizerSettings] = {}
    for part in encoders:
        tokenizer, pad_token = checkpoint.tokenizer(part)
        content = tokenizer.to_str(pretty=True) + "\n"
        if content not in files:
            files[content] = f"{part.replace('text_encoder', 'tokenizer')}/tokenizer.json"
            path = folder / files[content]
            path.parent.mkdir()
            path.write_text(content, encoding="utf-8")
        settings[part] = TokenizerSettings(
            file=files[content],
            max_length=checkpoint.config(part)["max_position_embeddings"],
            start_token=token_id(tokenizer, START_TOKEN),
            end_token=token_id(tokenizer, END_TOKEN),
            pad_token=pad_token,
        )
    return settings


def write_manifest(
    folder: Path,
    *,
    name: str,
    family: str,
    checkpoint: Checkpoint,
    architecture: Architecture,
    scheduler: dict[str, Any],
    tokenizers: dict[str, TokenizerSettings],
    builds: Mapping[str, Build],
    costs: Mapping[str, ExportCost],
) -> None:
    """Write the manifest of a bundle whose other files are all there."""
    paths = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    manifest = Manifest(
        format_version=FORMAT_VERSION,
        family=family,
        name=name,
        producer={library: metadata.version(library) for library in _LIBRARIES},
        checkpoint=checkpoint,
        architecture=architecture,
        scheduler=scheduler,
        tokenizers=tokenizers,
        builds=tuple(builds[component] for component in COMPONENT_NAMES if component in builds),
        files=tuple(describe_file(folder, path) for path in paths),
        export_costs=dict(costs),
    )
    save_manifest(manifest, folder)
