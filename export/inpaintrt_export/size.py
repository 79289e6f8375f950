"""How much room a bundle takes, known before any weight is read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from inpaintrt.bundle import number_format
from inpaintrt_export.families.parts import make_part

if TYPE_CHECKING:
    from collections.abc import Sequence

    from inpaintrt.bundle import Precision
    from inpaintrt_export.sources.checkpoint import CheckpointSource, Part

__all__ = ["bundle_bytes"]


def bundle_bytes(source: CheckpointSource, parts: Sequence[Part], precision: Precision) -> int:
    """Bytes of all weights; the VAE is counted in float32, since it may have to stay so."""
    width, full = number_format(precision).weight_bytes, number_format("fp32").weight_bytes
    return sum(
        _count_weights(part, source.config(part)) * (full if part == "vae" else width) for part in parts
    )


def _count_weights(part: Part, config: dict[str, Any]) -> int:
    with torch.device("meta"):
        return sum(weight.numel() for weight in make_part(part, config).parameters())
