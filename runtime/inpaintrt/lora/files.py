"""LoRA files: their tensors, their metadata, their digest. A file is a stranger's bytes."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, deserialize, safe_open

from inpaintrt.errors import LoraFileError

__all__ = ["LoraFile", "LoraTensor", "open_lora"]

_ADAPTER_METADATA: Final = "lora_adapter_metadata"
_DTYPES: Final[Mapping[str, type[np.generic]]] = {
    "BF16": np.uint16,  # NumPy has no bfloat16: its bits are the upper half of a float32's
    "F16": np.float16,
    "F32": np.float32,
    "F64": np.float64,
    "I32": np.int32,
    "I64": np.int64,
}


@dataclass(frozen=True)
class LoraTensor:
    """A tensor of a LoRA file, in the type that it is stored in.

    Attributes:
        name: Its name in the file.
        shape: Its shape.
    """

    name: str
    shape: tuple[int, ...]
    _stored: NDArray[Any] = field(repr=False)
    _is_bfloat16: bool = field(repr=False)

    def read(self) -> NDArray[np.float32]:
        """Its values in float32.

        Raises:
            LoraFileError: A value is not finite.
        """
        if self._is_bfloat16:
            values = (self._stored.astype(np.uint32) << 16).view(np.float32)
        else:
            with np.errstate(over="ignore"):
                values = self._stored.astype(np.float32)
        if not np.isfinite(values).all():
            raise LoraFileError(
                f"the LoRA's tensor {self.name!r} has values that are not finite",
                received="NaN, infinity, or numbers beyond float32",
                expected="finite numbers",
                hint="download the file again, or ask its author for a sound one",
            )
        return values.reshape(self.shape)


@dataclass(frozen=True)
class LoraFile:
    """A LoRA file in memory.

    Attributes:
        path: Where it lies.
        sha256: SHA-256 of its content.
        tensors: Its tensors by name.
        adapter: What PEFT says of its configuration, e.g. `unet.lora_alpha` (diffusers' `save_lora_weights`);
            empty where the file says nothing.
    """

    path: Path
    sha256: str
    tensors: Mapping[str, LoraTensor] = field(repr=False)
    adapter: Mapping[str, Any]


def open_lora(path: str | os.PathLike[str]) -> LoraFile:
    """Read a `.safetensors` file.

    Raises:
        LoraFileError: It is missing, no whole safetensors file, or has tensors of a type that is not known.
    """
    place = Path(path).expanduser()
    try:
        content = place.read_bytes()
        with safe_open(place, framework="numpy") as opened:
            metadata = opened.metadata() or {}
        views = deserialize(content)  # type: ignore[no-untyped-call]
    except OSError as error:
        raise LoraFileError(
            "the LoRA file cannot be read",
            received=f"{place}: {error.strerror or error}",
            expected="the path of a .safetensors file",
        ) from error
    except SafetensorError as error:
        raise LoraFileError(
            f"{place} is not a whole .safetensors file",
            received=str(error),
            expected="a LoRA as .safetensors; pickled files (.pt, .ckpt, .bin) are never read",
            hint="download it again, or convert it to .safetensors",
        ) from error
    tensors = {name: _tensor(place, name, view) for name, view in views}
    if not tensors:
        raise LoraFileError(f"{place} has no tensors", expected="the factors of a LoRA")
    return LoraFile(place, hashlib.sha256(content).hexdigest(), tensors, _adapter(place, metadata))


def _tensor(path: Path, name: str, view: Mapping[str, Any]) -> LoraTensor:
    dtype = _DTYPES.get(view["dtype"])
    if dtype is None:
        raise LoraFileError(
            f"{path} has a tensor of a type that LoRAs are not read in",
            received=f"{name!r} of {view['dtype']}",
            expected=", ".join(sorted(_DTYPES)),
            hint="convert the file to float16 or bfloat16",
        )
    stored = np.frombuffer(view["data"], dtype)
    return LoraTensor(name, tuple(view["shape"]), stored, view["dtype"] == "BF16")


def _adapter(path: Path, metadata: Mapping[str, str]) -> Mapping[str, Any]:
    if _ADAPTER_METADATA not in metadata:
        return {}
    try:
        adapter = json.loads(metadata[_ADAPTER_METADATA])
    except (ValueError, RecursionError):
        adapter = None
    if not isinstance(adapter, dict):
        raise LoraFileError(
            f"the metadata {_ADAPTER_METADATA!r} of {path} cannot be read",
            received=metadata[_ADAPTER_METADATA][:200],
            expected="a JSON object, as diffusers' save_lora_weights writes it",
        )
    return adapter
