"""Families of checkpoints: what their parts are, and what the runtime must know of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from inpaintrt_export.families import sd, sdxl

if TYPE_CHECKING:
    from inpaintrt.bundle import Architecture
    from inpaintrt_export.sources.checkpoint import CheckpointConfigs, Part

__all__ = ["FAMILIES", "Family", "find_family"]


@dataclass(frozen=True)
class Family:
    """What the export must know of a family.

    Attributes:
        name: As the manifest has it.
        parts: The parts of a checkpoint.
        check_architecture: Checks a checkpoint's configurations, and takes from them what the runtime must
            know.
        scheduler_of: The checkpoint's scheduler configuration, as diffusers' pipelines run it.
        pipeline_class: The class of diffusers' pipeline that a checkpoint is published with.
        hidden_layer: Which of the text encoders' hidden states the UNet sees, counted from the last one.
        final_norm: Whether it sees them after the text encoder's final layer norm.
    """

    name: str
    parts: Callable[[CheckpointConfigs], tuple[Part, ...]]
    check_architecture: Callable[[CheckpointConfigs], Architecture]
    scheduler_of: Callable[[CheckpointConfigs], dict[str, Any]]
    pipeline_class: Callable[[CheckpointConfigs], str]
    hidden_layer: int
    final_norm: bool


SD: Final = Family(
    "sd",
    sd.parts,
    sd.check_architecture,
    sd.scheduler_of,
    sd.pipeline_class,
    hidden_layer=0,
    final_norm=True,
)
SDXL: Final = Family(
    "sdxl",
    sdxl.parts,
    sdxl.check_architecture,
    sdxl.scheduler_of,
    sdxl.pipeline_class,
    hidden_layer=1,
    final_norm=False,
)
FAMILIES: Final = {family.name: family for family in (SD, SDXL)}


def find_family(unet: Mapping[str, Any]) -> Family:
    """The family of a checkpoint with this UNet: SDXL if it sees pooled text and sizes."""
    return SDXL if unet.get("addition_embed_type") == sdxl.ADDED_EMBEDDING else SD
