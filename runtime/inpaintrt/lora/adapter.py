"""PEFT's configuration of a LoRA, as diffusers writes it into a file's metadata."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from inpaintrt.errors import LoraFileError

__all__ = ["AdapterConfig"]

_PREFIXES: Final = {"denoiser": "unet.", "text_encoder": "text_encoder.", "text_encoder_2": "text_encoder_2."}


@dataclass(frozen=True)
class AdapterConfig:
    """What PEFT's `LoraConfig` says of one component; empty where the file has no metadata.

    Attributes:
        values: `lora_alpha`, `alpha_pattern`, `use_rslora` and the rest.
    """

    values: Mapping[str, Any]

    @classmethod
    def of_component(cls, metadata: Mapping[str, Any], component: str) -> AdapterConfig:
        """The part of a file's metadata that is about a component.

        Raises:
            LoraFileError: The metadata is of the wrong type, or asks for what is not supported.
        """
        prefix = _PREFIXES[component]
        values = {
            name.removeprefix(prefix): value for name, value in metadata.items() if name.startswith(prefix)
        }
        if values.get("fan_in_fan_out"):
            raise LoraFileError(
                "the LoRA's metadata asks for transposed weights, which these networks do not have",
                received=f"{prefix}fan_in_fan_out = {values['fan_in_fan_out']!r}",
                expected="false",
            )
        return cls(values)

    def scale(self, module: str, rank: int) -> float:
        """Alpha over rank (over its square root with `use_rslora`); 1 where there is no alpha.

        Raises:
            LoraFileError: Alpha is not a finite number.
        """
        patterns = self.values.get("alpha_pattern") or {}
        alpha = self.values.get("lora_alpha", self.values.get("alpha"))
        if isinstance(patterns, dict):
            alpha = next((patterns[key] for key in patterns if _matches(key, module)), alpha)
        if alpha is None:
            return 1.0
        if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not math.isfinite(alpha):
            raise LoraFileError(
                f"the LoRA's metadata has no usable alpha for {module}",
                received=repr(alpha),
                expected="a finite number",
            )
        return float(alpha / (math.sqrt(rank) if self.values.get("use_rslora") else rank))


def _matches(pattern: str, module: str) -> bool:
    """As PEFT matches: a regular expression for the end of the module's name."""
    try:
        return re.fullmatch(rf"(?:.*\.)?(?:{pattern})", module) is not None
    except re.error:
        return pattern == module
