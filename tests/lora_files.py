"""LoRA files with random factors, in the layouts in which they are published."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from inpaintrt.lora.modules import original_name

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["FORMATS", "Modules", "adaptable", "make_lora", "save_lora"]

Format = Literal[
    "kohya",
    "kohya sdxl",
    "kohya without alpha",
    "peft",
    "peft with metadata",
    "peft dora",
    "diffusers",
    "old diffusers",
]
FORMATS: tuple[Format, ...] = (
    "kohya",
    "kohya without alpha",
    "peft",
    "peft with metadata",
    "peft dora",
    "diffusers",
    "old diffusers",
)
Modules = dict[str, tuple[int, ...]]
"""Shape of the weight of each module that is adapted, as `unet.conv_in` or `text_encoder.text_model.…`."""

RANK, ALPHA = 4, 2.0
_ATTENTION = (".to_q", ".to_k", ".to_v", ".to_out.0")
_TEXT = (".q_proj", ".k_proj", ".v_proj", ".out_proj", ".fc1", ".fc2")
_FLAT = {"unet": "lora_unet_", "text_encoder": "lora_te_"}
_FLAT_SDXL = {"unet": "lora_unet_", "text_encoder": "lora_te1_", "text_encoder_2": "lora_te2_"}
_OLD_TEXT = {"q_proj": "to_q_lora", "k_proj": "to_k_lora", "v_proj": "to_v_lora", "out_proj": "to_out_lora"}


def adaptable(
    unet: nn.Module,
    text_encoder: nn.Module,
    text_encoder_2: nn.Module | None = None,
    *,
    convolutions: bool = False,
) -> Modules:
    """The modules that LoRAs are usually trained for: attention, feed-forward, and projections."""
    found: Modules = {}
    for name, part in unet.named_modules():
        inside = "attentions" in name and isinstance(part, nn.Linear | nn.Conv2d)
        if inside or (convolutions and isinstance(part, nn.Conv2d | nn.Linear)):
            found[f"unet.{name}"] = tuple(part.weight.shape)
    for component, encoder in (("text_encoder", text_encoder), ("text_encoder_2", text_encoder_2)):
        for name, part in () if encoder is None else encoder.named_modules():
            if isinstance(part, nn.Linear) and name.endswith(_TEXT):
                prefix = "" if name.startswith("text_model.") else "text_model."
                found[f"{component}.{prefix}{name}"] = tuple(part.weight.shape)
    return found


def make_lora(
    layout: Format, modules: Modules, *, rank: int = RANK, alpha: float = ALPHA, seed: int = 0
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a LoRA file.

    Args:
        layout: How tensors are named, and where alpha is.
        modules: What is adapted; "old diffusers" knows attention alone.
        rank: Of all factors.
        alpha: In the layouts that have one.
        seed: Of the factors.
    """
    generator = torch.Generator().manual_seed(seed)
    tensors: dict[str, Tensor] = {}
    for module, shape in modules.items():
        down = torch.randn(rank, *shape[1:], generator=generator) * shape[1] ** -0.5
        up = torch.randn(shape[0], rank, *(1 for _ in shape[2:]), generator=generator) * 0.4
        name = _original(module, modules) if layout == "kohya sdxl" else module
        tensors |= _named(layout, name, down, up, alpha)
        if layout == "peft dora":
            lengths = 1 + torch.rand(shape[0], generator=generator)
            # transformers takes the second spelling alone.
            ending = "" if module.startswith("unet.") else ".weight"
            name = f"{module}.lora_magnitude_vector{ending}"
            tensors[name] = lengths if len(shape) == 2 else lengths.reshape(1, -1, *(1 for _ in shape[2:]))
    return tensors, _metadata(layout, modules, rank, alpha)


def _named(layout: Format, module: str, down: Tensor, up: Tensor, alpha: float) -> dict[str, Tensor]:
    component, _, name = module.partition(".")
    if layout.startswith("kohya"):
        flat = (_FLAT_SDXL if layout == "kohya sdxl" else _FLAT)[component] + name.replace(".", "_")
        named = {f"{flat}.lora_down.weight": down, f"{flat}.lora_up.weight": up}
        return named | ({} if "without" in layout else {f"{flat}.alpha": torch.tensor(alpha)})
    if layout.startswith("peft"):
        return {f"{module}.lora_A.weight": down, f"{module}.lora_B.weight": up}
    stem = _old_stem(module) if layout == "old diffusers" else _stem(module)
    return {} if stem is None else {f"{stem}.down.weight": down, f"{stem}.up.weight": up}


def _original(module: str, modules: Modules) -> str:
    """A module of the UNet by its name in the original code; that mapping has a test of its own."""
    component, _, name = module.partition(".")
    unet = [known.removeprefix("unet.") for known in modules if known.startswith("unet.")]
    return f"unet.{original_name(name, unet)}" if component == "unet" else module


def _stem(module: str) -> str:
    return f"{module}.lora" if module.startswith("unet.") else f"{module}.lora_linear_layer"


def _old_stem(module: str) -> str | None:
    parent, _, last = module.removesuffix(".0").rpartition(".")
    if module.startswith("unet."):
        return f"{parent}.processor.{last}_lora" if module.endswith(_ATTENTION) else None
    return f"{parent}.{_OLD_TEXT[last]}" if last in _OLD_TEXT else None


def _metadata(layout: Format, modules: Modules, rank: int, alpha: float) -> dict[str, str]:
    if layout != "peft with metadata":
        return {}
    adapter: dict[str, Any] = {}
    for component in _FLAT:
        names = sorted(name.partition(".")[2] for name in modules if name.startswith(f"{component}."))
        targets = [name.removeprefix("text_model.") for name in names]
        special = {targets[0]: 3 * alpha}
        values = {"r": rank, "lora_alpha": alpha, "target_modules": targets, "alpha_pattern": special}
        adapter |= {f"{component}.{name}": value for name, value in values.items()}
    return {"format": "pt", "lora_adapter_metadata": json.dumps(adapter)}


def save_lora(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None, *, dtype: Any = None
) -> Path:
    """Write a LoRA file, in another type if asked."""
    stored = {name: tensor.to(dtype or tensor.dtype).contiguous() for name, tensor in tensors.items()}
    save_file(stored, path, metadata=dict(metadata or {}))
    return path
