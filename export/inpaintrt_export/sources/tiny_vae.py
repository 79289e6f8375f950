"""A tiny VAE, which does not come with a checkpoint: from a folder, the Hub, or with random weights."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inpaintrt.bundle import Checkpoint
from inpaintrt.errors import SourceError
from inpaintrt_export.progress import silent
from inpaintrt_export.sources.hub import download_model, is_hub_id
from inpaintrt_export.sources.model_folder import ModelFolder
from inpaintrt_export.sources.synthetic import PREFIX, SyntheticTinyVae

if TYPE_CHECKING:
    from torch import nn

    from inpaintrt_export.progress import Progress
    from inpaintrt_export.sources import SourceOptions
    from inpaintrt_export.sources.checkpoint import Part

__all__ = ["TinyVaeSource", "open_tiny_vae"]


class TinyVaeFolder:
    """A tiny VAE in a folder.

    Args:
        model: The folder.
        name: What the manifest calls it.
        revision: Commit of the Hub repository that it was downloaded from.
    """

    def __init__(self, model: ModelFolder, name: str, revision: str | None = None) -> None:
        self._model = model
        self._name = name
        self._revision = revision

    def config(self) -> dict[str, Any]:
        """The `config.json`."""
        return self._model.config()

    def load(self, part: Part) -> nn.Module:
        """The VAE in float32."""
        del part  # there is but one
        return self._model.load()

    def origin(self) -> Checkpoint:
        """Name, revision, and digest over the weights' files."""
        digest = hashlib.sha256(b"".join(self._model.digests())).hexdigest()
        return Checkpoint(id=self._name, revision=self._revision, sha256=digest)


TinyVaeSource = TinyVaeFolder | SyntheticTinyVae


def open_tiny_vae(source: str, options: SourceOptions, progress: Progress = silent) -> TinyVaeSource:
    """Find a tiny VAE.

    Args:
        source: `synthetic:NAME`, a folder with `config.json` and weights, or a Hub id `owner/name`.
        options: How it is read.
        progress: Called while it is downloaded.

    Raises:
        SourceError: There is no such VAE.
        UnsafeWeightsError: Its weights are pickled.
    """
    if source.startswith(PREFIX):
        return SyntheticTinyVae(source, options.seed)
    path = Path(source).expanduser()
    if path.is_dir():
        _check_is_model(path)
        return TinyVaeFolder(_model_folder(path, options), path.resolve().name)
    if is_hub_id(source) and not path.exists():
        folder = download_model(source, "tiny_vae", options, progress)
        return TinyVaeFolder(_model_folder(folder, options), source, folder.name)
    raise SourceError(
        "there is no such tiny VAE",
        received=source,
        expected="a folder, owner/name on the Hub such as madebyollin/taesd, or synthetic:taesd",
    )


def _model_folder(path: Path, options: SourceOptions) -> ModelFolder:
    return ModelFolder(path, "tiny_vae", variant=options.variant, allow_pickle=options.allow_pickle)


def _check_is_model(path: Path) -> None:
    if not (path / "config.json").is_file():
        raise SourceError(
            f"there is no tiny VAE in {path}",
            received=", ".join(sorted(entry.name for entry in path.iterdir())) or "an empty folder",
            expected="config.json and diffusion_pytorch_model.safetensors, as AutoencoderTiny is saved",
            hint="name the folder of the VAE itself",
        )
