"""What a source of weights offers, wherever the weights lie."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tokenizers import Tokenizer
    from torch import nn

    from inpaintrt.bundle import Checkpoint, PredictionType

__all__ = ["PARTS", "CheckpointConfigs", "CheckpointSource", "Part", "PartSource", "predicting"]

Part = Literal["text_encoder", "text_encoder_2", "vae", "unet", "tiny_vae"]
PARTS: tuple[Part, ...] = ("text_encoder", "text_encoder_2", "vae", "unet")
"""All parts that a checkpoint may have; "tiny_vae" comes from elsewhere."""


def predicting(scheduler: Mapping[str, Any], prediction_type: PredictionType | None) -> dict[str, Any]:
    """A scheduler's configuration, with what the user says that the UNet predicts."""
    return {**scheduler, **({} if prediction_type is None else {"prediction_type": prediction_type})}


class CheckpointConfigs(Protocol):
    """What describes a checkpoint: everything but its weights."""

    def has(self, part: Part) -> bool:
        """Whether the checkpoint has a part."""
        ...

    def config(self, part: Part) -> dict[str, Any]:
        """The part's `config.json`.

        Raises:
            SourceError: The part is missing, or its configuration cannot be read.
        """
        ...

    def pipeline_config(self) -> dict[str, Any]:
        """The checkpoint's `model_index.json`; empty where there is none."""
        ...

    def tokenizer(self, part: Part) -> tuple[Tokenizer, int]:
        """A text encoder's tokenizer without padding and truncation, and the id of what pads a window.

        Raises:
            SourceError: There is no CLIP tokenizer.
        """
        ...

    def scheduler_config(self) -> dict[str, Any]:
        """The checkpoint's `scheduler_config.json`.

        Raises:
            SourceError: There is none.
        """
        ...


class PartSource(Protocol):
    """What parts are read from, one at a time."""

    def load(self, part: Part) -> nn.Module:
        """The part in float32, in evaluation mode.

        Raises:
            SourceError: Weights are missing or do not fit the configuration.
            UnsafeWeightsError: There are only pickled weights.
        """
        ...

    def origin(self) -> Checkpoint:
        """Where the weights come from."""
        ...


class CheckpointSource(CheckpointConfigs, PartSource, Protocol):
    """A checkpoint: what describes it, and its parts."""
