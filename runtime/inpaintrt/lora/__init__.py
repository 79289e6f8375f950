"""LoRAs: files of low-rank changes of a checkpoint's weights, read and applied without PyTorch."""

from inpaintrt.lora.changes import Change
from inpaintrt.lora.files import LoraFile, open_lora
from inpaintrt.lora.initializers import Initializer, read_initializers
from inpaintrt.lora.loras import (
    Lora,
    LoraSource,
    changed_components,
    check_components,
    describe_loras,
    open_loras,
    parse_lora,
)
from inpaintrt.lora.patching import PADDED, Weights, changed_bytes, changed_weights, find_changes

__all__ = [
    "PADDED",
    "Change",
    "Initializer",
    "Lora",
    "LoraFile",
    "LoraSource",
    "Weights",
    "changed_bytes",
    "changed_components",
    "changed_weights",
    "check_components",
    "describe_loras",
    "find_changes",
    "open_lora",
    "open_loras",
    "parse_lora",
    "read_initializers",
]
