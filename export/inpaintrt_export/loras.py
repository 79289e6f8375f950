"""LoRAs fused into a checkpoint's weights before they are exported."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec
import torch

from inpaintrt.lora import PADDED, check_components, describe_loras, find_changes
from inpaintrt_export.families import find_family
from inpaintrt_export.families.parts import make_part
from inpaintrt_export.weights import parameter_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tokenizers import Tokenizer
    from torch import nn

    from inpaintrt.bundle import Checkpoint
    from inpaintrt.lora import Lora
    from inpaintrt_export.sources.checkpoint import CheckpointSource, Part

__all__ = ["FusedSource", "with_loras"]

_COMPONENTS: Final[dict[Part, str]] = {
    "text_encoder": "text_encoder",
    "text_encoder_2": "text_encoder_2",
    "unet": "denoiser",
}


def with_loras(checkpoint: CheckpointSource, loras: Sequence[Lora]) -> CheckpointSource:
    """A checkpoint whose weights LoRAs have changed.

    Raises:
        LoraError: A LoRA does not fit the checkpoint.
    """
    return FusedSource(checkpoint, loras) if loras else checkpoint


class FusedSource:
    """A checkpoint whose parts are changed when they are loaded.

    Args:
        checkpoint: The checkpoint.
        loras: In the order in which they are applied.

    Raises:
        LoraError: A LoRA does not fit the checkpoint.
    """

    def __init__(self, checkpoint: CheckpointSource, loras: Sequence[Lora]) -> None:
        self._checkpoint = checkpoint
        self._loras = loras
        family = find_family(checkpoint.config("unet"))
        parts = [part for part in family.parts(checkpoint) if part in _COMPONENTS]
        check_components(loras, [_COMPONENTS[part] for part in parts])
        for part in parts:
            with torch.device("meta"):
                fresh = make_part(part, checkpoint.config(part))
            self._find_changes(part, fresh)

    def _find_changes(self, part: Part, module: nn.Module) -> dict[str, list[tuple[Any, float]]]:
        component = _COMPONENTS[part]
        names = [parameter_name(component, name) for name, _ in module.named_parameters()]
        return find_changes(self._loras, component, names)

    def load(self, part: Part) -> nn.Module:
        """The part in float32, in evaluation mode, changed.

        Raises:
            SourceError: Weights are missing or do not fit the configuration.
            UnsafeWeightsError: There are only pickled weights.
            LoraError: A change does not fit a weight, or is not finite.
        """
        module = self._checkpoint.load(part)
        if part in _COMPONENTS:
            self._fuse(part, module)
        return module

    def _fuse(self, part: Part, module: nn.Module) -> None:
        component = _COMPONENTS[part]
        changes = self._find_changes(part, module)
        for own_name, parameter in module.named_parameters():
            name = parameter_name(component, own_name)
            weight = parameter.detach().numpy()
            for change, scale in changes.pop(name, []):
                weight = change.apply(weight, scale, pads_channels=(component, name) == PADDED)
            parameter.data = torch.from_numpy(weight)

    def origin(self) -> Checkpoint:
        """Where the weights come from, and what changed them."""
        return msgspec.structs.replace(self._checkpoint.origin(), loras=describe_loras(self._loras))

    def has(self, part: Part) -> bool:
        """Whether the checkpoint has a part."""
        return self._checkpoint.has(part)

    def pipeline_config(self) -> dict[str, Any]:
        """The checkpoint's `model_index.json`; empty where there is none."""
        return self._checkpoint.pipeline_config()

    def config(self, part: Part) -> dict[str, Any]:
        """The part's `config.json`."""
        return self._checkpoint.config(part)

    def tokenizer(self, part: Part) -> tuple[Tokenizer, int]:
        """A text encoder's tokenizer without padding and truncation, and the id of what pads a window."""
        return self._checkpoint.tokenizer(part)

    def scheduler_config(self) -> dict[str, Any]:
        """The checkpoint's `scheduler_config.json`."""
        return self._checkpoint.scheduler_config()
