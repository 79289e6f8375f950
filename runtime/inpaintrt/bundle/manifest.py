"""Reading and writing a bundle's manifest."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from inpaintrt.atomic import atomic_write
from inpaintrt.bundle.records import (
    CACHED_FEATURE,
    COMPONENT_NAMES,
    FAMILIES,
    FORMAT_VERSION,
    SHALLOW_DENOISER,
    TEXT_ENCODERS,
    TINY_VAE,
    Manifest,
)
from inpaintrt.errors import BundleFormatError, BundleNotFoundError

__all__ = ["MANIFEST_NAME", "load_manifest", "save_manifest"]

MANIFEST_NAME = "bundle.json"


class _Version(msgspec.Struct):
    format_version: int


def load_manifest(folder: Path) -> Manifest:
    """Read and check the manifest of a bundle.

    Raises:
        BundleNotFoundError: There is no manifest in the folder.
        BundleFormatError: The manifest is of another version or family, or is not a manifest.
    """
    path = folder / MANIFEST_NAME
    try:
        content = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise BundleNotFoundError(
            f"{folder} is not a bundle: it has no {MANIFEST_NAME}",
            expected="a folder written by `inpaintrt export`",
            hint="export a checkpoint with `inpaintrt export SOURCE -o DIR`, or name another folder",
        ) from None
    return _parse_manifest(content, path)


def _parse_manifest(content: bytes, path: Path) -> Manifest:
    try:
        version = msgspec.json.decode(content, type=_Version).format_version
        if version != FORMAT_VERSION:
            raise BundleFormatError(
                f"{path} has a format that this version of inpaintrt does not read",
                received=f"format_version {version}",
                expected=f"format_version {FORMAT_VERSION}",
                hint="upgrade inpaintrt" if version > FORMAT_VERSION else _remedy(content, path.parent),
            )
        manifest = msgspec.json.decode(content, type=Manifest)
    except msgspec.DecodeError as error:
        raise BundleFormatError(
            f"{path} is not a manifest", received=str(error), hint="export the checkpoint again"
        ) from error
    _check_family(manifest, path)
    _check_components(manifest, path)
    _check_files(manifest, path)
    return manifest


class _OldCheckpoint(msgspec.Struct):
    id: str = "SOURCE"
    revision: str | None = None


class _OldManifest(msgspec.Struct):
    """What a manifest of format 1 says of where the bundle came from."""

    checkpoint: _OldCheckpoint = msgspec.field(default_factory=_OldCheckpoint)
    components: dict[str, dict[str, Any]] = {}


def _remedy(content: bytes, folder: Path) -> str:
    """The command that makes a bundle of an older format anew."""
    try:
        old = msgspec.json.decode(content, type=_OldManifest)
    except msgspec.DecodeError:
        old = _OldManifest()
    denoiser = old.components.get("denoiser", {})
    if denoiser.get("form") == "unet":
        command = ["import-onnx", old.checkpoint.id]
    else:
        command = ["export", old.checkpoint.id, *_export_options(old.checkpoint, denoiser)]
    return f"export it again: `{shlex.join(['inpaintrt', *command, '-o', str(folder), '--force'])}`"


def _export_options(checkpoint: _OldCheckpoint, denoiser: dict[str, Any]) -> Iterator[str]:
    if denoiser.get("precision") == "fp16":
        yield from ("--precision", "fp16")
    if checkpoint.id.startswith("synthetic:"):
        yield from ("--seed", (checkpoint.revision or "0").removeprefix("seed "))
    elif checkpoint.revision is not None:
        yield from ("--revision", checkpoint.revision)


def _check_family(manifest: Manifest, path: Path) -> None:
    if manifest.family not in FAMILIES:
        raise BundleFormatError(
            f"{path} is of a family of checkpoints that this version of inpaintrt does not run",
            received=manifest.family,
            expected=", ".join(FAMILIES),
            hint="upgrade inpaintrt",
        )


def _check_components(manifest: Manifest, path: Path) -> None:
    encoders = [name for name in TEXT_ENCODERS if name in manifest.tokenizers]
    optional = {*TEXT_ENCODERS, SHALLOW_DENOISER, *TINY_VAE}
    there = {*encoders, *(TINY_VAE if manifest.tiny_vae is not None else ())}
    if any(CACHED_FEATURE in build.outputs for build in manifest.builds):
        there.add(SHALLOW_DENOISER)
    expected = [name for name in COMPONENT_NAMES if name not in optional or name in there]
    exported = [build.component for build in manifest.builds if build.network_sha256 is None]
    unknown = {build.component for build in manifest.builds} - set(expected)
    if not encoders or len(encoders) != len(manifest.tokenizers):
        raise BundleFormatError(
            f"{path} has no tokenizer, or one for no text encoder",
            received=", ".join(manifest.tokenizers) or "none",
            expected=" or ".join(TEXT_ENCODERS),
            hint="export the checkpoint again",
        )
    if sorted(exported) != sorted(expected) or unknown:
        raise BundleFormatError(
            f"{path} does not describe the components of a checkpoint",
            received=", ".join([*sorted(exported), *sorted(unknown - set(exported))]) or "none",
            expected=", ".join(expected),
            hint="export the checkpoint again",
        )


def _check_files(manifest: Manifest, path: Path) -> None:
    for build in manifest.builds:
        if not build.files and (build.network_sha256 is None or build.backend is not None):
            raise BundleFormatError(
                f"{path} names no file of its {build.component} for {build.backend or 'any backend'}",
                received="no files",
                expected="the path of the file that is opened",
                hint="export the checkpoint again",
            )
    listed = {entry.path for entry in manifest.files}
    for named in [
        *(settings.file for settings in manifest.tokenizers.values()),
        *(file for build in manifest.builds for file in build.files),
    ]:
        if named not in listed:
            raise BundleFormatError(
                f"{path} names a file that it does not list",
                received=named,
                expected="one of the paths under `files`",
                hint="export the checkpoint again",
            )


def save_manifest(manifest: Manifest, folder: Path) -> None:
    """Write `bundle.json` atomically: it is there whole, or not at all."""
    with atomic_write(folder / MANIFEST_NAME, durable=True) as partial:
        partial.write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n")
