"""A checkpoint in a folder of diffusers' layout."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError

from inpaintrt.bundle import TEXT_ENCODERS, Checkpoint
from inpaintrt.errors import SourceError, UnsafeWeightsError
from inpaintrt_export.configs import read_config
from inpaintrt_export.families.parts import CLASSES
from inpaintrt_export.sources.checkpoint import PARTS, predicting
from inpaintrt_export.tokenizer import PADDING, read_tokenizer

if TYPE_CHECKING:
    from pathlib import Path

    from tokenizers import Tokenizer
    from torch import nn

    from inpaintrt.bundle import PredictionType
    from inpaintrt_export.sources.checkpoint import Part

__all__ = ["FolderSource"]

_WEIGHT_STEMS: dict[Part, tuple[str, str]] = {
    "text_encoder": ("model", "pytorch_model"),
    "text_encoder_2": ("model", "pytorch_model"),
    "vae": ("diffusion_pytorch_model", "diffusion_pytorch_model"),
    "unet": ("diffusion_pytorch_model", "diffusion_pytorch_model"),
}
"""Name of a part's weights without suffix: as safetensors, and pickled."""


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
        return read_config(self._folder / part / "config.json", f"no {part} in {self._folder}")

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
        self.config(part)
        options: dict[str, Any] = {
            "use_safetensors": not self._is_pickled(part),
            "variant": self._variant,
            "low_cpu_mem_usage": True,
            "local_files_only": True,
            "output_loading_info": True,
        }
        folder = self._folder / part
        try:
            model, info = _load(part, folder, options)
        except (OSError, RuntimeError, ValueError, KeyError, SafetensorError) as error:
            raise SourceError(
                f"the {part} in {folder} cannot be loaded",
                received=str(error),
                expected="weights that fit config.json",
                hint="download the checkpoint again",
            ) from error
        _check_loading(folder, info)
        return model.eval()

    def origin(self) -> Checkpoint:
        """Name, revision, and digest over the weights' files in the order of their names."""
        digest = hashlib.sha256()
        for part in filter(self.has, PARTS):
            for path in self._weight_files(part, pickled=self._is_pickled(part)):
                with path.open("rb") as stream:
                    digest.update(hashlib.file_digest(stream, "sha256").digest())
        return Checkpoint(id=self._name, revision=self._revision, sha256=digest.hexdigest())

    def _weight_files(self, part: Part, *, pickled: bool) -> list[Path]:
        stem, suffix = self._weight_stem(part, pickled=pickled), "bin" if pickled else "safetensors"
        folder = self._folder / part
        whole = [folder / f"{stem}.{suffix}"]
        shards = sorted(folder.glob(f"{stem}-*-of-*.{suffix}"))
        return [path for path in whole if path.is_file()] or shards

    def _weight_stem(self, part: Part, *, pickled: bool) -> str:
        stem = _WEIGHT_STEMS[part][pickled]
        return stem if self._variant is None else f"{stem}.{self._variant}"

    def _is_pickled(self, part: Part) -> bool:
        """Whether only pickled weights are there.

        Raises:
            SourceError: There are no weights at all.
            UnsafeWeightsError: There are only pickled ones, and those are not allowed.
        """
        folder = self._folder / part
        if self._weight_files(part, pickled=False):
            return False
        if not self._weight_files(part, pickled=True):
            raise SourceError(
                f"no weights of the {part} in {folder}",
                received=", ".join(sorted(path.name for path in folder.glob("*"))) or "an empty folder",
                expected=f"{self._weight_stem(part, pickled=False)}.safetensors",
                hint="download the checkpoint again",
            )
        if not self._allow_pickle:
            raise UnsafeWeightsError(
                f"the weights of the {part} in {folder} are pickled, and reading a pickle can execute code",
                received=", ".join(path.name for path in self._weight_files(part, pickled=True)),
                expected="weights in .safetensors files",
                hint="convert them, or pass --allow-pickle if you trust whoever made them",
            )
        return True


def _load(part: Part, folder: Path, options: dict[str, Any]) -> tuple[nn.Module, dict[str, Any]]:
    if part in TEXT_ENCODERS:
        options |= {"dtype": torch.float32, "attn_implementation": "eager"}
    else:
        options["torch_dtype"] = torch.float32
    model, info = CLASSES[part].from_pretrained(folder, **options)
    return model, info


def _check_loading(folder: Path, info: dict[str, Any]) -> None:
    missing = sorted(info["missing_keys"])
    mismatched = sorted(str(entry[0]) for entry in info["mismatched_keys"])
    if missing or mismatched:
        raise SourceError(
            f"the weights in {folder} do not fit config.json",
            received=f"missing: {_some(missing)}; of another shape: {_some(mismatched)}",
            expected="every weight of the architecture",
            hint="download the checkpoint again",
        )


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:3]) or "none"
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"
