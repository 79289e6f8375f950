"""A checkpoint in a folder of diffusers' layout."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from inpaintrt.bundle import Checkpoint
from inpaintrt_export.configs import read_config
from inpaintrt_export.sources.checkpoint import PARTS, predicting
from inpaintrt_export.sources.model_folder import ModelFolder
from inpaintrt_export.tokenizer import PADDING, read_tokenizer

if TYPE_CHECKING:
    from pathlib import Path

    from tokenizers import Tokenizer
    from torch import nn

    from inpaintrt.bundle import PredictionType
    from inpaintrt_export.sources.checkpoint import Part

__all__ = ["FolderSource"]


class FolderSource:
    """A checkpoint in a folder: `text_encoder`, `vae`, `unet`, `tokenizer` and `scheduler`.

    SDXL has `text_encoder_2` and `tokenizer_2`, too.

    Args:
        folder: The checkpoint.
        name: What the manifest calls it.
        revision: Commit of the Hub repository that it was downloaded from.
        variant: Variant of the weights, e.g. "fp16" for `model.fp16.safetensors`; None for the plain ones.
        allow_pickle: Read pickled weights where there are no others.
        tokenizer: A folder with a tokenizer to take instead of the checkpoint's own.
        prediction_type: What the UNet predicts, if the scheduler's configuration is wrong about it.
    """

    def __init__(
        self,
        folder: Path,
        *,
        name: str,
        revision: str | None = None,
        variant: str | None = None,
        allow_pickle: bool = False,
        tokenizer: Path | None = None,
        prediction_type: PredictionType | None = None,
    ) -> None:
        self._folder = folder
        self._name = name
        self._revision = revision
        self._variant = variant
        self._allow_pickle = allow_pickle
        self._prediction_type = prediction_type
        self._tokenizer = tokenizer

    def has(self, part: Part) -> bool:
        """Whether the checkpoint has a part."""
        return (self._folder / part).is_dir()

    def pipeline_config(self) -> dict[str, Any]:
        """The `model_index.json`; empty where there is none."""
        path = self._folder / "model_index.json"
        return read_config(path, f"no model_index.json in {self._folder}") if path.is_file() else {}

    def config(self, part: Part) -> dict[str, Any]:
        """The part's `config.json`."""
        return self._model(part).config()

    def scheduler_config(self) -> dict[str, Any]:
        """The `scheduler_config.json`."""
        path = self._folder / "scheduler" / "scheduler_config.json"
        return predicting(read_config(path, f"no scheduler in {self._folder}"), self._prediction_type)

    def tokenizer(self, part: Part) -> tuple[Tokenizer, int]:
        """A text encoder's tokenizer, and the id of the token that pads a window."""
        if self._tokenizer is not None:
            return read_tokenizer(self._tokenizer, padding=PADDING.get(part))
        return read_tokenizer(self._folder / part.replace("text_encoder", "tokenizer"))

    def load(self, part: Part) -> nn.Module:
        """The part in float32."""
        return self._model(part).load()

    def origin(self) -> Checkpoint:
        """Name, revision, and digest over the weights' files in the order of their names."""
        digest = hashlib.sha256()
        for part in filter(self.has, PARTS):
            for of_file in self._model(part).digests():
                digest.update(of_file)
        return Checkpoint(id=self._name, revision=self._revision, sha256=digest.hexdigest())

    def _model(self, part: Part) -> ModelFolder:
        return ModelFolder(self._folder / part, part, variant=self._variant, allow_pickle=self._allow_pickle)
