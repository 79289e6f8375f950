"""The modules of UNets and CLIP text encoders, by every name that LoRA files have for them."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Final

__all__ = ["ModuleNames", "original_name"]

_TEXT_PROJECTIONS: Final = {
    ".self_attn.to_q": ".self_attn.q_proj",
    ".self_attn.to_k": ".self_attn.k_proj",
    ".self_attn.to_v": ".self_attn.v_proj",
    ".self_attn.to_out": ".self_attn.out_proj",
}
_OUTSIDE_BLOCKS: Final = {
    "conv_in": "input_blocks.0.0",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
_IN_RESNETS: Final = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_BLOCK: Final = re.compile(r"(?:(down|up)_blocks\.(\d+)|mid_block)\.([a-z]+)\.(\d+)\.(.+)")


class ModuleNames:
    """Finds the modules of a component by the names that LoRA files have for them.

    Args:
        component: "denoiser", "text_encoder" or "text_encoder_2".
        modules: Its modules by diffusers' and transformers' names; those of a text encoder begin with
            `text_model.`, but for `text_projection`.
    """

    def __init__(self, component: str, modules: Collection[str]) -> None:
        self._modules = frozenset(modules)
        self._is_denoiser = component == "denoiser"
        self._flat = {name.replace(".", "_"): module for module in modules for name in self._names(module)}

    def _names(self, module: str) -> Iterator[str]:
        if self._is_denoiser:
            original = original_name(module, self._modules)
            if original is not None:
                yield original
        yield module

    def find(self, name: str, *, flat: bool) -> str | None:
        """The module of a name, or None.

        Args:
            name: As a LoRA file spells it, without prefix and suffix.
            flat: Whether there are underscores in the place of dots.
        """
        if flat:
            return self._flat.get(name)
        module = self._unet_module(name) if self._is_denoiser else self._text_module(name)
        return module if module in self._modules else None

    @staticmethod
    def _unet_module(name: str) -> str:
        module = name.replace(".processor.", ".")
        return f"{module}.0" if module.endswith(".to_out") else module

    @staticmethod
    def _text_module(name: str) -> str:
        module = name if name.startswith(("text_model.", "text_projection")) else f"text_model.{name}"
        for old, new in _TEXT_PROJECTIONS.items():
            if module.endswith(old):
                return module.removesuffix(old) + new
        return module


def original_name(module: str, modules: Collection[str]) -> str | None:
    """What the original code of Stable Diffusion calls a module of the UNet, as LoRAs for SDXL do.

    Args:
        module: diffusers' name, e.g. `down_blocks.1.attentions.0.proj_in`.
        modules: All modules of the UNet.

    Returns:
        E.g. `input_blocks.4.1.proj_in`; None for a module that it does not have.
    """
    if module in _OUTSIDE_BLOCKS:
        return _OUTSIDE_BLOCKS[module]
    match = _BLOCK.fullmatch(module)
    if match is None:
        return None
    side, block, kind, index, rest = match.groups()
    inner = _IN_RESNETS.get(rest) if kind == "resnets" else rest
    if inner is None:
        return None
    if side is None:
        position = 2 * int(index) if kind == "resnets" else 1
        return f"middle_block.{position}.{inner}"
    return _in_block(side, int(block), kind, int(index), inner, modules)


def _in_block(
    side: str, block: int, kind: str, index: int, inner: str, modules: Collection[str]
) -> str | None:
    """Counts on as the original code does: conv_in, then block after block with what changes the size."""
    layers = _count_resnets("down_blocks.0", modules) + 1
    if kind == "downsamplers":
        return f"input_blocks.{(block + 1) * layers}.0.op"
    if kind == "upsamplers":
        attends = any(name.startswith(f"up_blocks.{block}.attentions.") for name in modules)
        return f"output_blocks.{(block + 1) * layers - 1}.{2 if attends else 1}.{inner}"
    if kind not in ("resnets", "attentions"):
        return None
    first, name = (1, "input_blocks") if side == "down" else (0, "output_blocks")
    return f"{name}.{first + block * layers + index}.{int(kind == 'attentions')}.{inner}"


def _count_resnets(block: str, modules: Collection[str]) -> int:
    prefix = f"{block}.resnets."
    return len({name.removeprefix(prefix).partition(".")[0] for name in modules if name.startswith(prefix)})
