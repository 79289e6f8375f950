"""Reading and writing a bundle's manifest."""

from __future__ import annotations

from pathlib import Path

import msgspec

from inpaintrt.atomic import atomic_write
from inpaintrt.bundle.records import COMPONENT_NAMES, FORMAT_VERSION, Manifest
from inpaintrt.errors import BundleFormatError, BundleNotFoundError

__all__ = ["MANIFEST_NAME", "load_manifest", "save_manifest"]

MANIFEST_NAME = "bundle.json"


class _Version(msgspec.Struct):
    format_version: int


def load_manifest(folder: Path) -> Manifest:
    """Read and check the manifest of a bundle.

    Raises:
        BundleNotFoundError: There is no manifest in the folder.
        BundleFormatError: The manifest is of another version, or is not a manifest.
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
                hint="upgrade inpaintrt" if version > FORMAT_VERSION else "export the checkpoint again",
            )
        manifest = msgspec.json.decode(content, type=Manifest)
    except msgspec.DecodeError as error:
        raise BundleFormatError(
            f"{path} is not a manifest", received=str(error), hint="export the checkpoint again"
        ) from error
    _check_components(manifest, path)
    return manifest


def _check_components(manifest: Manifest, path: Path) -> None:
    if set(manifest.components) != set(COMPONENT_NAMES):
        raise BundleFormatError(
            f"{path} does not describe the four components of an inpainting checkpoint",
            received=", ".join(sorted(manifest.components)) or "none",
            expected=", ".join(COMPONENT_NAMES),
            hint="export the checkpoint again",
        )
    listed = {entry.path for entry in manifest.files}
    networks = [component.file for component in manifest.components.values()]
    variants = [variant.network.file for variant in manifest.variants]
    for named in [manifest.tokenizer.file, *networks, *variants, *(plan.file for plan in manifest.plans)]:
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
