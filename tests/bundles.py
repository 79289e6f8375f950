"""Small checkpoints and bundles that the tests share, made once for a state of the exporter and then kept.

Processes that need the same one at the same time wait for the first of them: see `made_once`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import hashlib
import shutil
import tempfile
import warnings
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import msgspec

from inpaintrt.bundle import MANIFEST_NAME, Build, describe_file, load_manifest, save_manifest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from inpaintrt.bundle import Manifest, Precision
    from inpaintrt_export.component import ExportedCheckpoint
    from inpaintrt_export.sources.checkpoint import Part

__all__ = [
    "SDXL_COMPONENTS",
    "SD_COMPONENTS",
    "SD_PARTS",
    "builds_for",
    "conversions",
    "list_files_again",
    "made_once",
    "make_onnx_folder",
    "make_tiny_bundle",
    "make_tiny_checkpoint",
    "parts_exported_once",
    "source_key",
]

SD_COMPONENTS = ("text_encoder", "vae_encoder", "denoiser", "vae_decoder")
"""The components of Stable Diffusion 1.x and 2.x."""

SD_PARTS: tuple[Part, ...] = ("text_encoder", "vae", "unet")
"""The parts of a checkpoint of Stable Diffusion 1.x and 2.x."""

SDXL_COMPONENTS = ("text_encoder", "text_encoder_2", "vae_encoder", "denoiser", "vae_decoder")
"""The components of Stable Diffusion XL."""

_BUILDS = "builds.json"
_ROOT = Path(__file__).resolve().parents[1]


def builds_for(manifest: Manifest, *backends: str) -> tuple[Build, ...]:
    """The builds of a bundle that were made for one of some backends."""
    return tuple(build for build in manifest.builds if build.backend in backends)


def conversions(manifest: Manifest) -> tuple[Build, ...]:
    """The conversions of a bundle's networks that were checked."""
    made = (build for build in manifest.builds if build.network_sha256 is not None)
    return tuple(build for build in made if build.backend is None)


def list_files_again(bundle: Path) -> None:
    """Put all files of a bundle, which a test has changed, into its manifest."""
    manifest = load_manifest(bundle)
    paths = sorted(path.relative_to(bundle).as_posix() for path in bundle.rglob("*") if path.is_file())
    files = tuple(describe_file(bundle, path) for path in paths if path != MANIFEST_NAME)
    save_manifest(msgspec.structs.replace(manifest, files=files), bundle)


def source_key() -> str:
    """A digest of everything that decides what an exported bundle holds."""
    digest = hashlib.sha256()
    package = _ROOT / "export" / "inpaintrt_export"
    files = sorted(package.rglob("*.py"))
    for command in (package / "commands.py", package / "builds" / "command.py"):
        files.remove(command)
    for path in [*files, *sorted((_ROOT / "runtime" / "inpaintrt" / "bundle").glob("*.py"))]:
        digest.update(path.relative_to(_ROOT).as_posix().encode() + path.read_bytes())
    for library in ("torch", "diffusers", "transformers", "onnx", "onnxscript"):
        digest.update(metadata.version(library).encode())
    return digest.hexdigest()[:16]


@contextlib.contextmanager
def made_once(folder: Path) -> Iterator[Path | None]:
    """Make a folder that processes share, in one of them while the others wait.

    Yields:
        An empty folder to fill, which becomes `folder` when the block ends well; None if it is there already.
    """
    with folder.with_name(f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # until the file is closed, be it by the end of the process
        if folder.is_dir():
            yield None
            return
        with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
            new = Path(temporary) / folder.name
            new.mkdir()
            yield new
            new.rename(folder)


def make_tiny_checkpoint(cache: Path, name: str = "tiny") -> Path:
    """The diffusers folder of a tiny synthetic checkpoint."""
    folder = cache / f"{name}-checkpoint-{source_key()}"
    with made_once(folder) as new, warnings.catch_warnings():
        if new is not None:
            warnings.simplefilter("ignore")  # of the libraries that are imported here
            from inpaintrt_export.sources.synthetic import save_checkpoint

            save_checkpoint(f"synthetic:{name}", new)
    return folder


def make_tiny_bundle(cache: Path, precision: Precision = "fp32", name: str = "tiny") -> Path:
    """The bundle of `make_tiny_checkpoint`, exported in a precision."""
    folder = cache / f"{name}-bundle-{precision}-{source_key()}"
    with made_once(folder) as new, warnings.catch_warnings(), parts_exported_once(cache):
        if new is not None:
            warnings.simplefilter("ignore")
            from inpaintrt_export.exporter import export_bundle

            export_bundle(make_tiny_checkpoint(cache, name), new, precision=precision)
    return folder


@contextlib.contextmanager
def parts_exported_once(cache: Path) -> Iterator[None]:
    """Let exports copy the components of a part that another checkpoint has as well.

    The tiny checkpoints have the same VAE and the same text encoders, and tracing these takes longer than
    most tests do.
    """
    from inpaintrt_export import exporter

    with patch.object(exporter, "export_part", partial(_export_part_once, cache)):
        yield


def _export_part_once(
    cache: Path, part: Part, checkpoint: ExportedCheckpoint, report: Callable[[str], None]
) -> dict[str, Build]:
    from inpaintrt_export.component import export_part

    folder = cache / f"{part}-{_part_key(part, checkpoint)}-{source_key()}"
    with made_once(folder) as new:
        if new is not None:
            builds = export_part(part, dataclasses.replace(checkpoint, folder=new), report)
            (new / _BUILDS).write_bytes(msgspec.json.encode(builds))
    shutil.copytree(folder, checkpoint.folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns(_BUILDS))
    return msgspec.json.decode((folder / _BUILDS).read_bytes(), type=dict[str, Build])


def _part_key(part: Part, checkpoint: ExportedCheckpoint) -> str:
    """A digest of everything that decides what is made of a part."""
    model: Any = checkpoint.source.load(part)
    config = dict(model.config) if isinstance(model.config, dict) else model.config.to_dict()
    config.pop("_name_or_path", None)
    depends: list[object] = [part, checkpoint.precision, checkpoint.family.name, config]
    if part == "unet":
        depends.append(checkpoint.architecture)
    digest = hashlib.sha256(repr(depends).encode())
    for name, weight in sorted(model.state_dict().items()):
        digest.update(name.encode() + weight.numpy().tobytes())
    return digest.hexdigest()[:16]


def make_onnx_folder(cache: Path) -> Path:
    """The tiny checkpoint as plain ONNX files in a folder laid out as optimum lays it out."""
    folder = cache / f"tiny-onnx-{source_key()}"
    with made_once(folder) as new, warnings.catch_warnings():
        if new is not None:
            warnings.simplefilter("ignore")
            _fill_onnx_folder(make_tiny_checkpoint(cache), make_tiny_bundle(cache), new)
    return folder


def _fill_onnx_folder(checkpoint: Path, bundle: Path, new: Path) -> None:
    for name in ("tokenizer", "scheduler"):
        shutil.copytree(checkpoint / name, new / name)
    for name in ("vae_encoder", "vae_decoder"):
        shutil.copytree(bundle / name, new / name)
        shutil.copyfile(checkpoint / "vae" / "config.json", new / name / "config.json")
    _write_plain_graphs(checkpoint, new)


def _write_plain_graphs(checkpoint: Path, folder: Path) -> None:
    import torch

    from inpaintrt.families import FAMILIES, step_specs
    from inpaintrt_export.families import SD
    from inpaintrt_export.networks import text_encoder_network, unet_network
    from inpaintrt_export.sources.folder import FolderSource
    from inpaintrt_export.tracing import trace

    class LastLayer(torch.nn.Module):
        def __init__(self, encoder: torch.nn.Module) -> None:
            super().__init__()
            self.encoder = encoder

        def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
            hidden: torch.Tensor = self.encoder(input_ids).last_hidden_state
            return hidden

    source = FolderSource(checkpoint, name="tiny")
    encoder = source.load("text_encoder")
    network = text_encoder_network(encoder, torch.float32, SD)
    specs = step_specs(FAMILIES["sd"], SD.check_architecture(source))
    inputs = {"input_ids": network.inputs["input_ids"]}
    plain = dataclasses.replace(network, module=LastLayer(encoder), inputs=inputs)
    for name, graph in {
        "text_encoder": plain,
        "unet": unet_network(source.load("unet"), torch.float32, specs),
    }.items():
        trace(graph, folder / name / "model.onnx")
        shutil.copyfile(checkpoint / name / "config.json", folder / name / "config.json")
