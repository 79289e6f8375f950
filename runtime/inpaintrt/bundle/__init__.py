"""The bundle: a folder of engines and their manifest, the one thing that export and runtime share."""

from inpaintrt.bundle.builds import (
    add_builds,
    choose_builds,
    drop_builds,
    network_digest,
    replace_build,
    same_purpose,
)
from inpaintrt.bundle.files import describe_file, verify_files
from inpaintrt.bundle.manifest import MANIFEST_NAME, load_manifest, save_manifest
from inpaintrt.bundle.precisions import PRECISIONS, NumberFormat, Precision, number_format
from inpaintrt.bundle.records import (
    COMPONENT_NAMES,
    FAMILIES,
    FORMAT_VERSION,
    Activations,
    Architecture,
    AxisRange,
    Build,
    Checkpoint,
    Dtype,
    FileEntry,
    Manifest,
    Parity,
    TensorKind,
    TensorSpec,
    TokenizerSettings,
)

__all__ = [
    "COMPONENT_NAMES",
    "FAMILIES",
    "FORMAT_VERSION",
    "MANIFEST_NAME",
    "PRECISIONS",
    "Activations",
    "Architecture",
    "AxisRange",
    "Build",
    "Checkpoint",
    "Dtype",
    "FileEntry",
    "Manifest",
    "NumberFormat",
    "Parity",
    "Precision",
    "TensorKind",
    "TensorSpec",
    "TokenizerSettings",
    "add_builds",
    "choose_builds",
    "describe_file",
    "drop_builds",
    "load_manifest",
    "network_digest",
    "number_format",
    "replace_build",
    "same_purpose",
    "save_manifest",
    "verify_files",
]
