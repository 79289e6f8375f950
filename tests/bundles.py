"""Small checkpoints and bundles that the tests share, made once for a state of the exporter and then kept."""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
import warnings
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from inpaintrt.errors import OutputFolderError

if TYPE_CHECKING:
    from inpaintrt.bundle import Precision

__all__ = ["make_tiny_bundle", "make_tiny_checkpoint", "source_key"]

_ROOT = Path(__file__).resolve().parents[1]


def source_key() -> str:
    """A digest of everything that decides what an exported bundle holds."""
    digest = hashlib.sha256()
    package = _ROOT / "export" / "inpaintrt_export"
    files = sorted([*package.glob("*.py"), *(package / "sources").glob("*.py")])
    files.remove(package / "commands.py")
    for path in [*files, _ROOT / "runtime" / "inpaintrt" / "bundle.py"]:
        digest.update(path.relative_to(_ROOT).as_posix().encode() + path.read_bytes())
    for library in ("torch", "diffusers", "transformers", "onnx", "onnxscript"):
        digest.update(metadata.version(library).encode())
    return digest.hexdigest()[:16]


def make_tiny_checkpoint(cache: Path) -> Path:
    """The diffusers folder of `synthetic:tiny`."""
    folder = cache / f"tiny-checkpoint-{source_key()}"
    if folder.is_dir():
        return folder
    with warnings.catch_warnings(), tempfile.TemporaryDirectory(dir=cache) as temporary:
        warnings.simplefilter("ignore")  # of the libraries that are imported here
        from inpaintrt_export.sources.synthetic import save_checkpoint

        save_checkpoint("synthetic:tiny", Path(temporary) / "checkpoint")
        with contextlib.suppress(OSError):  # another test run was faster
            (Path(temporary) / "checkpoint").rename(folder)
    return folder


def make_tiny_bundle(cache: Path, precision: Precision = "fp32") -> Path:
    """The bundle of `make_tiny_checkpoint`, exported in a precision."""
    folder = cache / f"tiny-bundle-{precision}-{source_key()}"
    if folder.is_dir():
        return folder
    checkpoint = make_tiny_checkpoint(cache)
    with warnings.catch_warnings(), contextlib.suppress(OutputFolderError):  # another test run was faster
        warnings.simplefilter("ignore")
        from inpaintrt_export.exporter import export_bundle

        export_bundle(checkpoint, folder, precision=precision)
    return folder
