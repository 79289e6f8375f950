"""A checkpoint in one file, with the names that the first Stable Diffusion code base gave to its weights."""

from __future__ import annotations

import copy
import hashlib
import pickle
import re
from typing import TYPE_CHECKING, Any, cast

import torch
from diffusers.loaders.single_file_utils import (
    convert_ldm_clip_checkpoint,
    convert_ldm_unet_checkpoint,
    convert_ldm_vae_checkpoint,
    convert_open_clip_checkpoint,
)
from safetensors import SafetensorError, safe_open

from inpaintrt.bundle import TEXT_ENCODERS, Checkpoint
from inpaintrt.errors import SourceError, UnsafeWeightsError
from inpaintrt_export.families.parts import inpaints, make_part
from inpaintrt_export.sources.checkpoint import predicting
from inpaintrt_export.sources.layouts import LAYOUTS
from inpaintrt_export.tokenizer import PADDING, read_tokenizer

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from tokenizers import Tokenizer
    from torch import Tensor, nn

    from inpaintrt.bundle import PredictionType
    from inpaintrt_export.sources.checkpoint import Part
    from inpaintrt_export.sources.layouts import Layout

__all__ = ["LAYOUTS_BY_CONTEXT_WIDTH", "SingleFileSource"]

LAYOUTS_BY_CONTEXT_WIDTH: dict[int, tuple[Layout, ...]] = {
    768: (LAYOUTS["sd15"], LAYOUTS["sd15-inpaint"]),
    1024: (LAYOUTS["sd2"], LAYOUTS["sd2-base"], LAYOUTS["sd2-inpaint"]),
    1280: (LAYOUTS["sdxl-refiner"],),
    2048: (LAYOUTS["sdxl"], LAYOUTS["sdxl-inpaint"]),
}
"""Where layouts differ only in what the UNet predicts, the first is that of a file that does not say so."""

_PREFIXES: dict[Part, tuple[str, ...]] = {
    "text_encoder": ("conditioner.embedders.0.transformer.", "cond_stage_model."),
    "text_encoder_2": ("conditioner.embedders.1.model.", "conditioner.embedders.0.model."),
    "vae": ("first_stage_model.",),
    "unet": ("model.diffusion_model.",),
}
"""Where the weights of a part lie; that of SDXL comes first, its refiner has one text encoder."""
_OPEN_CLIP_PREFIXES = ("cond_stage_model.model.", *_PREFIXES["text_encoder_2"])
_CONTEXT_WEIGHT = re.compile(
    r"model\.diffusion_model\.input_blocks\.\d+\.1\.transformer_blocks\.0\.attn2\.to_k\.weight"
)
_FIRST_WEIGHT = "model.diffusion_model.input_blocks.0.0.weight"
_LAST_WEIGHT = "model.diffusion_model.out.2.weight"
_BASE_STEPS = 875_000
"""Training steps of the first base checkpoint of 2.x, by which diffusers knows that it predicts epsilon."""
_PARAMETERIZATION = re.compile(r"^\s*parameterization\s*:\s*[\"']?(\w+)", re.MULTILINE)
_PREDICTION_TYPES: dict[str, PredictionType] = {
    "eps": "epsilon",
    "epsilon": "epsilon",
    "v": "v_prediction",
    "v_prediction": "v_prediction",
}
"""diffusers' words for those of the original code base, and of ModelSpec."""
_PICKLED_SUFFIXES = (".bin", ".ckpt", ".pt", ".pth")
_TOKENIZER_FILES = ("tokenizer.json", "vocab.json")


class SingleFileSource:
    """A `.safetensors` file with UNet, VAE and text encoder; the tokenizer lies beside it or is named.

    Args:
        path: The file.
        allow_pickle: Read a pickled file; only tensors are taken out of it.
        tokenizer: The folder of a CLIP tokenizer; None looks beside the file, and in `tokenizer` beside it.
        prediction_type: What the UNet predicts. None takes what a `.yaml` of the same name beside the file
            says, then the file itself; SD 2.x files that say nothing predict v, as for diffusers'
            `from_single_file`.

    Raises:
        SourceError: The file is not a checkpoint of a known layout.
        UnsafeWeightsError: The file is pickled, and that is not allowed.
    """

    def __init__(
        self,
        path: Path,
        *,
        allow_pickle: bool = False,
        tokenizer: Path | None = None,
        prediction_type: PredictionType | None = None,
    ) -> None:
        self._path = path
        self._weights = _open(path, allow_pickle=allow_pickle)
        self._prediction_type = prediction_type or _original_config(path) or self._weights.prediction_type()
        self._layout = self._find_layout()
        self._tokenizer = _find_tokenizer(path) if tokenizer is None else tokenizer

    def _find_layout(self) -> Layout:
        context = next(filter(_CONTEXT_WEIGHT.fullmatch, sorted(self._weights.names)), "attn2.to_k.weight")
        width = self._shape(context)[1]
        layouts = LAYOUTS_BY_CONTEXT_WIDTH.get(width)
        if layouts is None:
            known = ", ".join(map(str, LAYOUTS_BY_CONTEXT_WIDTH))
            raise SourceError(
                f"{self._path} is not a checkpoint of Stable Diffusion 1.x, 2.x or XL",
                received=f"embeddings of width {width}",
                expected=f"width {known}",
            )
        channels = {
            "in_channels": self._shape(_FIRST_WEIGHT)[1],
            "out_channels": self._shape(_LAST_WEIGHT)[0],
        }
        alike = [each for each in layouts if inpaints(each.parts["unet"]) == inpaints(channels)]
        predicted = [each for each in alike if each.scheduler["prediction_type"] == self._prediction_type]
        return (predicted or alike)[0]

    def _shape(self, name: str) -> tuple[int, ...]:
        if name not in self._weights.names:
            raise SourceError(
                f"{self._path} is not a Stable Diffusion checkpoint",
                received=f"no weight {name}",
                expected="a file with UNet, VAE and text encoder in the original layout",
                hint="name a diffusers folder, or another file",
            )
        return tuple(self._weights.read(name).shape)

    def has(self, part: Part) -> bool:
        """Whether checkpoints of this layout have a part."""
        return part in self._layout.parts

    def pipeline_config(self) -> dict[str, Any]:
        """What the `model_index.json` of this layout says beside the classes."""
        return self._layout.pipeline

    def config(self, part: Part) -> dict[str, Any]:
        """The part's configuration, with the UNet's channels as the file has them."""
        config = copy.deepcopy(self._layout.parts[part])
        if part == "unet":
            config["in_channels"] = self._shape(_FIRST_WEIGHT)[1]
            config["out_channels"] = self._shape(_LAST_WEIGHT)[0]
        return config

    def load(self, part: Part) -> nn.Module:
        """The part in float32."""
        names = self._names(part)
        weights = {name: self._weights.read(name).float() for name in names}
        model = _make(part, self.config(part))
        try:
            converted = _convert(part, weights, model)
        except KeyError as error:  # which is how diffusers tells of some weights that are missing
            raise self._refuse(part, [str(error.args[0])]) from error
        self._fill(part, model, converted)
        return model.eval()

    def _names(self, part: Part) -> list[str]:
        """The names of a part's weights."""
        for prefix in _PREFIXES[part]:
            names = [name for name in self._weights.names if name.startswith(prefix)]
            if names:
                return names
        raise SourceError(
            f"there is no {part} in {self._path}",
            expected=f"weights that begin with {' or '.join(_PREFIXES[part])}",
            hint="name a file that holds the whole checkpoint",
        )

    def _fill(self, part: Part, model: nn.Module, weights: Mapping[str, Tensor]) -> None:
        try:
            missing = model.load_state_dict(weights, strict=False, assign=True).missing_keys
        except RuntimeError as error:  # which is how PyTorch tells of shapes that differ
            missing = [str(error)]
        if missing:
            raise self._refuse(part, missing)

    def _refuse(self, part: Part, missing: list[str]) -> SourceError:
        return SourceError(
            f"the {part} in {self._path} cannot be loaded",
            received=f"missing or of another shape: {', '.join(missing[:3])}",
            expected="every weight of the architecture",
            hint="name a diffusers folder of this checkpoint",
        )

    def tokenizer(self, part: Part) -> tuple[Tokenizer, int]:
        """A text encoder's tokenizer, and the id of the token that pads a window."""
        if self._tokenizer is None:
            raise SourceError(
                f"there is no tokenizer beside {self._path}, and a single file holds none",
                expected="tokenizer.json, or vocab.json and merges.txt",
                hint="name the folder of a CLIP tokenizer with --tokenizer",
            )
        return read_tokenizer(self._tokenizer, padding=PADDING.get(part))

    def scheduler_config(self) -> dict[str, Any]:
        """The scheduler that checkpoints of this layout come with."""
        return predicting(self._layout.scheduler, self._prediction_type)

    def origin(self) -> Checkpoint:
        """The file's name, and its digest."""
        with self._path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        return Checkpoint(id=self._path.name, sha256=digest)


class _SafetensorsWeights:
    """Weights that are read one by one."""

    def __init__(self, path: Path) -> None:
        try:
            self._file = cast("Any", safe_open(path, framework="pt"))
        except (SafetensorError, OSError) as error:
            raise SourceError(
                f"{path} is not a whole .safetensors file",
                received=str(error),
                hint="download it again, or name a .safetensors file",
            ) from error
        self.names = frozenset(self._file.keys())

    def prediction_type(self) -> PredictionType | None:
        """What the UNet predicts by the file's ModelSpec (github.com/Stability-AI/ModelSpec)."""
        metadata = self._file.metadata() or {}
        return _PREDICTION_TYPES.get(metadata.get("modelspec.prediction_type", "").lower())

    def read(self, name: str) -> Tensor:
        tensor: Tensor = self._file.get_tensor(name)
        return tensor


class _PickledWeights:
    """Weights out of a pickled file, mapped into memory; nothing but tensors is unpickled."""

    def __init__(self, path: Path) -> None:
        try:
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except (RuntimeError, OSError, EOFError, ValueError, pickle.UnpicklingError) as error:
            raise SourceError(
                f"{path} cannot be read",
                received=str(error).partition("\n")[0],
                expected="a file that holds tensors only",
                hint="convert it to .safetensors",
            ) from error
        self._weights: dict[str, Tensor] = content.get("state_dict", content)
        self._steps = content.get("global_step")
        self.names = frozenset(self._weights)

    def prediction_type(self) -> PredictionType | None:
        """What the UNet predicts, as far as the number of training steps tells."""
        return "epsilon" if self._steps == _BASE_STEPS else None

    def read(self, name: str) -> Tensor:
        return self._weights[name]


def _open(path: Path, *, allow_pickle: bool) -> _SafetensorsWeights | _PickledWeights:
    if path.suffix not in _PICKLED_SUFFIXES:
        return _SafetensorsWeights(path)
    if not allow_pickle:
        raise UnsafeWeightsError(
            f"{path} is pickled, and reading a pickle can execute code",
            received=path.suffix,
            expected="a .safetensors file",
            hint="convert it, or pass --allow-pickle if you trust whoever made it",
        )
    return _PickledWeights(path)


def _original_config(path: Path) -> PredictionType | None:
    """What the UNet predicts by the configuration of the original code base, if it lies beside the file.

    Raises:
        SourceError: It predicts something else.
    """
    config = path.with_suffix(".yaml")
    if not config.is_file():
        return None
    found = _PARAMETERIZATION.search(config.read_text(encoding="utf-8", errors="replace"))
    if found is None:
        return None
    if found[1] not in _PREDICTION_TYPES:
        raise SourceError(
            f"{config} has an unknown parameterization",
            received=found[1],
            expected=" or ".join(_PREDICTION_TYPES),
            hint="correct it, or name what the UNet predicts with --prediction-type",
        )
    return _PREDICTION_TYPES[found[1]]


def _find_tokenizer(path: Path) -> Path | None:
    for folder in (path.parent, path.parent / "tokenizer"):
        if any((folder / name).is_file() for name in _TOKENIZER_FILES):
            return folder
    return None


def _make(part: Part, config: dict[str, Any]) -> nn.Module:
    # Not on the meta device: the text encoder's position ids are no weight, and would stay there.
    with torch.device("cpu" if part in TEXT_ENCODERS else "meta"):
        return make_part(part, config)


def _convert(part: Part, weights: dict[str, Tensor], model: Any) -> dict[str, Tensor]:  # noqa: ANN401
    """Give the weights the names that diffusers and transformers use."""
    converted: dict[str, Tensor]
    match part:
        case "text_encoder" | "text_encoder_2":
            return _convert_text_encoder(weights, model)
        case "vae":
            converted = convert_ldm_vae_checkpoint(weights, model.config)
        case "unet":
            converted = convert_ldm_unet_checkpoint(weights, model.config)
    return converted


def _any_begins(names: Iterable[str], prefix: str) -> bool:
    return any(name.startswith(prefix) for name in names)


def _convert_text_encoder(weights: dict[str, Tensor], model: Any) -> dict[str, Tensor]:  # noqa: ANN401
    open_clip = next((prefix for prefix in _OPEN_CLIP_PREFIXES if _any_begins(weights, prefix)), None)
    if open_clip is not None:
        converted = convert_open_clip_checkpoint(model, weights, prefix=open_clip)
    else:
        converted = convert_ldm_clip_checkpoint(weights)
    # transformers 5 holds the layers in the model itself, transformers 4 in its attribute text_model.
    prefix = "" if hasattr(model, "text_model") else "text_model."
    return {name.removeprefix(prefix): weight for name, weight in converted.items()}
