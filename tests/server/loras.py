"""LoRA files for the demo bundle, with random factors."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from safetensors.numpy import save_file

from inpaintrt.bundle import load_manifest
from inpaintrt.lora import read_initializers
from inpaintrt.store import find_bundle

__all__ = ["LoraPaths", "make_lora", "make_loras"]

_RANK = 2
_PREFIXES = {"denoiser": "unet", "text_encoder": "text_encoder"}
_ENDINGS = {"denoiser": (".to_q.weight", ".to_v.weight"), "text_encoder": (".q_proj.weight", ".fc1.weight")}


class LoraPaths(NamedTuple):
    """LoRA files: two that change the UNet alone, and one that changes the text encoder as well."""

    style: Path
    detail: Path
    words: Path


def make_loras(folder: Path) -> LoraPaths:
    """Three different files for the demo."""
    return LoraPaths(
        make_lora(folder / "style.safetensors", "denoiser", seed=1),
        make_lora(folder / "detail.safetensors", "denoiser", seed=2),
        make_lora(folder / "words.safetensors", "denoiser", "text_encoder", seed=3),
    )


def make_lora(path: Path, *components: str, seed: int, size: float = 1.0) -> Path:
    """A LoRA for components of the demo, in PEFT's layout.

    Args:
        path: Where to write it.
        components: What it changes.
        seed: Of the factors.
        size: A factor of all differences.
    """
    folder = find_bundle("demo")
    exported = load_manifest(folder).exported
    generator = np.random.default_rng(seed)
    tensors = {}
    for component in components:
        build = exported[component]
        initializers = read_initializers(folder / build.file)
        for parameter, place in build.weights.items():
            if not parameter.endswith(_ENDINGS[component]):
                continue
            shape = initializers[place].shape
            outputs, inputs = shape[::-1] if parameter in build.transposed else shape
            module = f"{_PREFIXES[component]}.{parameter.removesuffix('.weight')}"
            down = generator.standard_normal((_RANK, inputs)) * size / np.sqrt(inputs)
            tensors[f"{module}.lora_A.weight"] = down.astype(np.float32)
            tensors[f"{module}.lora_B.weight"] = generator.standard_normal((outputs, _RANK)).astype(
                np.float32
            )
    save_file(tensors, path)
    return path
