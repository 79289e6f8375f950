"""The bundle: a folder of engines and their manifest, the one thing that export and runtime share."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import msgspec

from inpaintrt.errors import BundleFormatError, BundleIntegrityError, BundleNotFoundError

__all__ = [
    "COMPONENT_NAMES",
    "FORMAT_VERSION",
    "MANIFEST_NAME",
    "Architecture",
    "AxisRange",
    "Checkpoint",
    "Component",
    "Conversion",
    "FileEntry",
    "Manifest",
    "Parity",
    "Plan",
    "PlanBackend",
    "TensorSpec",
    "TokenizerSettings",
    "Variant",
    "VariantBackend",
    "describe_file",
    "load_manifest",
    "network_digest",
    "save_manifest",
    "verify_files",
]

FORMAT_VERSION = 1
MANIFEST_NAME = "bundle.json"
COMPONENT_NAMES = ("text_encoder", "vae_encoder", "denoiser", "vae_decoder")

Dtype = Literal["float16", "float32", "int64"]
PlanBackend = Literal["tensorrt", "tensorrt-rtx"]
VariantBackend = Literal["onnxruntime-cuda"]
Precision = Literal["fp16", "fp32"]
PredictionType = Literal["epsilon", "v_prediction", "sample"]


class _Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A part of the manifest: immutable, and refusing what it does not know."""


class AxisRange(_Record, frozen=True):
    """The sizes that an axis may take, both ends included."""

    min: int
    max: int


class TensorSpec(_Record, frozen=True):
    """An input or output of an engine.

    Attributes:
        dtype: NumPy's name of the element type.
        shape: One entry an axis: a fixed size, or the name of an axis whose size varies.
        ranges: The range of each named axis; a name that is absent has no limit.
    """

    dtype: Dtype
    shape: tuple[int | str, ...]
    ranges: dict[str, AxisRange] = {}


class Parity(_Record, frozen=True):
    """How far a component is from PyTorch's fp32 result on fresh inputs of one shape.

    Attributes:
        case: What was compared, e.g. the shape of the inputs.
        max_absolute_error: The largest absolute difference of any value.
        relative_error: The norm of the difference over the norm of PyTorch's result.
    """

    case: str
    max_absolute_error: float
    relative_error: float


class Component(_Record, frozen=True):
    """One network of the bundle.

    Attributes:
        file: Path of the ONNX file, relative to the bundle.
        precision: What the network computes in.
        inputs: Inputs by name.
        outputs: Outputs by name.
        form: For the denoiser, "step" (UNet, guidance and sampler update in one graph) or "unet"
            (the plain UNet); None for the other components.
        parity: The comparison with PyTorch made at export; empty where there was no PyTorch model. Of a
            variant: the comparison with the network that it was made of.
    """

    file: str
    precision: Precision
    inputs: dict[str, TensorSpec]
    outputs: dict[str, TensorSpec]
    form: Literal["step", "unet"] | None = None
    parity: tuple[Parity, ...] = ()


class Plan(_Record, frozen=True):
    """A network of the bundle, compiled for GPUs by TensorRT or TensorRT-RTX.

    Attributes:
        component: The network's name in the bundle.
        backend: The library that the plan was built with and runs on.
        library: That library's version, which must be the one that runs the plan.
        precision: What the network computes in.
        targets: Compute capabilities such as "sm89"; empty for a portable plan (TensorRT-RTX only).
        profiles: The shapes that the plan runs at: for each profile, the shape of every input.
        inputs: Inputs by name, as the network that was compiled has them.
        outputs: Outputs by name.
        network_sha256: `network_digest` of the bundle's network that was compiled, or converted and compiled.
        conversion: Revision of the conversion to half precision that came before; 0 where there was none.
        key: Digest of all that decides the plan's content; builds of one key are interchangeable.
        file: Path of the plan, relative to the bundle.
    """

    component: str
    backend: PlanBackend
    library: str
    precision: Precision
    targets: tuple[str, ...]
    profiles: tuple[dict[str, tuple[int, ...]], ...]
    inputs: dict[str, TensorSpec]
    outputs: dict[str, TensorSpec]
    network_sha256: str
    key: str
    file: str
    conversion: int = 0


class Conversion(_Record, frozen=True):
    """What became of a network of a float32 bundle when it was converted to half precision.

    Attributes:
        component: The network's name in the bundle.
        precision: What it computes in where half precision is asked for: "fp32" if half precision would
            spoil its results.
        network_sha256: `network_digest` of the network.
        revision: Revision of the conversion.
        parity: How far the converted network is from the bundle's own.
    """

    component: str
    precision: Precision
    network_sha256: str
    revision: int
    parity: tuple[Parity, ...]


class Variant(_Record, frozen=True):
    """A network of the bundle in the form that a backend runs fastest.

    Attributes:
        component: The network's name in the bundle.
        backend: The backend that takes it instead of the bundle's own network.
        network: The variant. Its external weights may be those of the bundle's own network.
        network_sha256: `network_digest` of the bundle's own network, of which it was made.
        revision: Revision of the conversion that made it.
        fused: How many nodes of each kind stand for several of the bundle's own network.
    """

    component: str
    backend: VariantBackend
    network: Component
    network_sha256: str
    revision: int
    fused: dict[str, int]


class FileEntry(_Record, frozen=True):
    """A file of the bundle, with its size in bytes and the SHA-256 of its content."""

    path: str
    size: int
    sha256: str


class Checkpoint(_Record, frozen=True):
    """Where the weights come from.

    Attributes:
        id: The source as the user named it.
        revision: The commit of a Hub repository.
        sha256: Digest over the weights' files, in the order of their names.
    """

    id: str
    revision: str | None = None
    sha256: str | None = None


class Architecture(_Record, frozen=True):
    """What the runtime must know of the networks.

    Attributes:
        latent_channels: Channels of a latent picture.
        vae_scale_factor: Pixels of one latent pixel along each side.
        latent_scale: The VAE's scaling factor: latents are multiplied by it after encoding.
        context_width: Width of one token's embedding.
        prediction_type: What the UNet predicts, in diffusers' words.
        native_resolution: Height and width in pixels that the checkpoint was trained for.
        text_layers: Layers of the text encoder, which limit clip_skip; None where it gives its last one only.
    """

    latent_channels: int
    vae_scale_factor: int
    latent_scale: float
    context_width: int
    prediction_type: PredictionType
    native_resolution: tuple[int, int]
    text_layers: int | None = None


class TokenizerSettings(_Record, frozen=True):
    """The tokenizer's file and the numbers that surround it.

    Attributes:
        file: Path of `tokenizer.json`, relative to the bundle.
        max_length: Tokens of one window, first and last token included.
        start_token: Id of the token before a prompt.
        end_token: Id of the token after a prompt.
        pad_token: Id of the token that fills a window.
    """

    file: str
    max_length: int
    start_token: int
    end_token: int
    pad_token: int


class Manifest(_Record, frozen=True):
    """The content of `bundle.json`.

    Attributes:
        format_version: Version of this layout.
        name: The bundle's name in the engine store.
        producer: Who wrote the bundle: library names and versions.
        checkpoint: Where the weights come from.
        architecture: What the runtime must know of the networks.
        scheduler: The checkpoint's `scheduler_config.json`.
        tokenizer: The tokenizer's file and numbers.
        components: "text_encoder", "vae_encoder", "denoiser" and "vae_decoder".
        files: Every file but the manifest.
        plans: The components as compiled for GPUs.
        conversions: The components of a float32 bundle as converted to half precision.
        variants: The components in the forms that backends run fastest.
    """

    format_version: int
    name: str
    producer: dict[str, str]
    checkpoint: Checkpoint
    architecture: Architecture
    scheduler: dict[str, Any]
    tokenizer: TokenizerSettings
    components: dict[str, Component]
    files: tuple[FileEntry, ...]
    plans: tuple[Plan, ...] = ()
    conversions: tuple[Conversion, ...] = ()
    variants: tuple[Variant, ...] = ()


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
    partial = folder / f".{MANIFEST_NAME}.partial"
    with partial.open("wb") as stream:
        stream.write(msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n")
        stream.flush()
        os.fsync(stream.fileno())
    partial.replace(folder / MANIFEST_NAME)


def describe_file(folder: Path, path: str) -> FileEntry:
    """Size and SHA-256 of a file, named relative to the bundle."""
    with (folder / path).open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return FileEntry(path=path, size=(folder / path).stat().st_size, sha256=digest)


def network_digest(manifest: Manifest, component: str) -> str:
    """SHA-256 over a component's ONNX file and what lies beside it, its external weights.

    Variants and their own weights, which lie there too, do not count.
    """
    folder = PurePosixPath(manifest.components[component].file).parent
    variants = tuple(variant.network.file for variant in manifest.variants)
    digest = hashlib.sha256()
    for entry in sorted(manifest.files, key=lambda entry: entry.path):
        if PurePosixPath(entry.path).parent == folder and not entry.path.startswith(variants):
            digest.update(f"{PurePosixPath(entry.path).name} {entry.sha256}\n".encode())
    return digest.hexdigest()


def verify_files(manifest: Manifest, folder: Path, *, hashes: bool = True) -> None:
    """Check that every file of a bundle is there, with its size and, if asked, its content.

    Args:
        manifest: The bundle's manifest.
        folder: The bundle.
        hashes: Also read every file and compare its SHA-256.

    Raises:
        BundleIntegrityError: A file is missing, leads out of the bundle, or differs.
    """
    for entry in manifest.files:
        _check_inside(folder, entry.path)
        if not (folder / entry.path).is_file():
            raise BundleIntegrityError(
                f"{folder / entry.path} is missing",
                expected=f"a file of {entry.size} bytes",
                hint="copy the bundle again, or export it again",
            )
        _check_content(folder, entry, hashes=hashes)


def _check_inside(folder: Path, path: str) -> None:
    if not (folder / path).resolve().is_relative_to(folder.resolve()):
        raise BundleIntegrityError(
            f"the manifest of {folder} names a file outside the bundle",
            received=path,
            expected="a path below the bundle's folder",
            hint="do not use this bundle: its manifest was tampered with",
        )


def _check_content(folder: Path, entry: FileEntry, *, hashes: bool) -> None:
    size = (folder / entry.path).stat().st_size
    found = describe_file(folder, entry.path) if hashes and size == entry.size else None
    if size != entry.size or (found is not None and found.sha256 != entry.sha256):
        raise BundleIntegrityError(
            f"{folder / entry.path} is not the file that was exported",
            received=f"{size} bytes" + (f", sha256 {found.sha256}" if found else ""),
            expected=f"{entry.size} bytes, sha256 {entry.sha256}",
            hint="copy the bundle again, or export it again",
        )
