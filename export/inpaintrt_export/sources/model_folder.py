"""A model in a folder of its own: `config.json` and weights, as diffusers and transformers save them."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final

import torch
from safetensors import SafetensorError

from inpaintrt.bundle import TEXT_ENCODERS
from inpaintrt.errors import SourceError, UnsafeWeightsError
from inpaintrt_export.configs import read_config
from inpaintrt_export.families.parts import part_class

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import nn

    from inpaintrt_export.sources.checkpoint import Part

__all__ = ["WEIGHT_STEMS", "ModelFolder"]

WEIGHT_STEMS: Final[Mapping[Part, tuple[str, str]]] = {
    "text_encoder": ("model", "pytorch_model"),
    "text_encoder_2": ("model", "pytorch_model"),
    "vae": ("diffusion_pytorch_model", "diffusion_pytorch_model"),
    "tiny_vae": ("diffusion_pytorch_model", "diffusion_pytorch_model"),
    "unet": ("diffusion_pytorch_model", "diffusion_pytorch_model"),
}
"""Name of a part's weights without suffix: as safetensors, and pickled."""


class ModelFolder:
    """A model in a folder.

    Args:
        folder: The folder.
        part: What the model is.
        variant: Variant of the weights, e.g. "fp16" for `model.fp16.safetensors`; None for the plain ones.
        allow_pickle: Read pickled weights where there are no others.
    """

    def __init__(
        self, folder: Path, part: Part, *, variant: str | None = None, allow_pickle: bool = False
    ) -> None:
        self._folder = folder
        self._part = part
        self._variant = variant
        self._allow_pickle = allow_pickle

    def config(self) -> dict[str, Any]:
        """The `config.json`.

        Raises:
            SourceError: It is missing, or cannot be read.
        """
        return read_config(self._folder / "config.json", f"no {self._part} in {self._folder}")

    def load(self) -> nn.Module:
        """The model in float32, in evaluation mode.

        Raises:
            SourceError: Weights are missing or do not fit the configuration.
            UnsafeWeightsError: There are only pickled weights, and those are not allowed.
        """
        kind = part_class(self._part, self.config())
        options: dict[str, Any] = {
            "use_safetensors": not self._is_pickled(),
            "variant": self._variant,
            "low_cpu_mem_usage": True,
            "local_files_only": True,
            "output_loading_info": True,
        }
        if self._part in TEXT_ENCODERS:
            options |= {"dtype": torch.float32, "attn_implementation": "eager"}
        else:
            options["torch_dtype"] = torch.float32
        try:
            model, info = kind.from_pretrained(self._folder, **options)
        except (OSError, RuntimeError, ValueError, KeyError, SafetensorError) as error:
            raise SourceError(
                f"the {self._part} in {self._folder} cannot be loaded",
                received=str(error),
                expected="weights that fit config.json",
                hint="download the checkpoint again",
            ) from error
        _check_loading(self._folder, info)
        loaded: nn.Module = model.eval()
        return loaded

    def digests(self) -> list[bytes]:
        """SHA-256 of each file of weights, in the order of their names.

        Raises:
            SourceError: There are no weights.
            UnsafeWeightsError: There are only pickled weights, and those are not allowed.
        """
        digests = []
        for path in self._weight_files(pickled=self._is_pickled()):
            with path.open("rb") as stream:
                digests.append(hashlib.file_digest(stream, "sha256").digest())
        return digests

    def _weight_files(self, *, pickled: bool) -> list[Path]:
        stem, suffix = self._weight_stem(pickled=pickled), "bin" if pickled else "safetensors"
        whole = [self._folder / f"{stem}.{suffix}"]
        shards = sorted(self._folder.glob(f"{stem}-*-of-*.{suffix}"))
        return [path for path in whole if path.is_file()] or shards

    def _weight_stem(self, *, pickled: bool) -> str:
        stem = WEIGHT_STEMS[self._part][pickled]
        return stem if self._variant is None else f"{stem}.{self._variant}"

    def _is_pickled(self) -> bool:
        """Whether only pickled weights are there.

        Raises:
            SourceError: There are no weights at all.
            UnsafeWeightsError: There are only pickled ones, and those are not allowed.
        """
        if self._weight_files(pickled=False):
            return False
        if not self._weight_files(pickled=True):
            raise SourceError(
                f"no weights of the {self._part} in {self._folder}",
                received=", ".join(sorted(path.name for path in self._folder.glob("*"))) or "an empty folder",
                expected=f"{self._weight_stem(pickled=False)}.safetensors",
                hint="download the checkpoint again",
            )
        if not self._allow_pickle:
            raise UnsafeWeightsError(
                f"the weights of the {self._part} in {self._folder} are pickled, and reading a pickle can "
                "execute code",
                received=", ".join(path.name for path in self._weight_files(pickled=True)),
                expected="weights in .safetensors files",
                hint="convert them, or pass --allow-pickle if you trust whoever made them",
            )
        return True


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
