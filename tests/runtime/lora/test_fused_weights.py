"""LoRAs change weights as diffusers' `load_lora_weights` and `fuse_lora` do."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from diffusers import StableDiffusionInpaintPipeline, StableDiffusionXLInpaintPipeline
from numpy.typing import NDArray

from bundles import make_tiny_checkpoint
from inpaintrt.lora import PADDED, find_changes, open_loras
from lora_files import FORMATS, Format, adaptable, make_lora, save_lora

Weights = dict[tuple[str, str], NDArray[np.float32]]

_PARTS = {"denoiser": "unet", "text_encoder": "text_encoder", "text_encoder_2": "text_encoder_2"}


@pytest.fixture(scope="module")
def pipe(tiny_checkpoint: Path) -> Any:
    pipe: Any = StableDiffusionInpaintPipeline.from_pretrained(tiny_checkpoint, safety_checker=None)
    return pipe


@pytest.fixture(scope="module")
def sdxl(bundle_cache: Path) -> Any:
    checkpoint = make_tiny_checkpoint(bundle_cache, "tiny-sdxl-inpaint")
    pipe: Any = StableDiffusionXLInpaintPipeline.from_pretrained(checkpoint)
    return pipe


def weights(pipe: Any) -> Weights:
    found = {}
    for component, part in _PARTS.items():
        if not hasattr(pipe, part):
            continue
        for name, value in getattr(pipe, part).state_dict().items():
            plain = name.replace(".base_layer.", ".")
            prefix = "" if part == "unet" or name.startswith("text_") else "text_model."
            found[component, prefix + plain] = value.numpy().copy()
    return found


def changed(before: Weights, *loras: tuple[Path, float]) -> Weights:
    opened = open_loras(loras)
    after = dict(before)
    for component in _PARTS:
        names = [name for part, name in before if part == component]
        for name, changes in find_changes(opened, component, names).items():
            for change, scale in changes:
                padded = (component, name) == PADDED
                after[component, name] = change.apply(after[component, name], scale, pads_channels=padded)
    return after


def fused(pipe: Any, *loras: tuple[Path, float]) -> Weights:
    for index, (path, _) in enumerate(loras):
        pipe.load_lora_weights(path, adapter_name=f"lora{index}")
    names = [f"lora{index}" for index in range(len(loras))]
    pipe.set_adapters(names, [scale for _, scale in loras])
    pipe.fuse_lora(adapter_names=names)
    try:
        return {key: value for key, value in weights(pipe).items() if "lora" not in key[1]}
    finally:
        pipe.unfuse_lora()
        pipe.unload_lora_weights()


def compare(
    ours: Weights, theirs: Weights, before: Weights, parts: Collection[str] = ("unet", "text_encoder")
) -> None:
    assert ours.keys() == theirs.keys()
    for key, value in theirs.items():
        np.testing.assert_allclose(ours[key], value, rtol=1e-5, atol=2e-6, err_msg=str(key))
    moved = {key[0] for key in ours if not np.array_equal(ours[key], before[key])}
    assert {_PARTS[component] for component in moved} == set(parts)


@pytest.mark.parametrize("scale", [1.0, 0.6])
@pytest.mark.parametrize("layout", FORMATS)
def test_every_format_changes_weights_as_in_diffusers(
    pipe: Any, tmp_path: Path, layout: Format, scale: float
) -> None:
    before = weights(pipe)
    modules = adaptable(pipe.unet, pipe.text_encoder, convolutions=layout in ("kohya", "peft"))
    path = save_lora(tmp_path / "a.safetensors", *make_lora(layout, modules))
    compare(changed(before, (path, scale)), fused(pipe, (path, scale)), before)


@pytest.mark.parametrize("layout", ["kohya sdxl", "kohya", "peft"])
def test_sdxl_is_changed_as_in_diffusers(sdxl: Any, tmp_path: Path, layout: Format) -> None:
    before = weights(sdxl)
    modules = adaptable(
        sdxl.unet,
        sdxl.text_encoder,
        None if layout == "kohya" else sdxl.text_encoder_2,
        convolutions=layout == "kohya sdxl",
    )
    path = save_lora(tmp_path / "a.safetensors", *make_lora(layout, modules))
    ours, theirs = changed(before, (path, 0.7)), fused(sdxl, (path, 0.7))
    compare(ours, theirs, before, {name.partition(".")[0] for name in modules})


@pytest.mark.filterwarnings("ignore:Already found a `peft_config`:UserWarning")
def test_several_loras_add_up_as_in_diffusers(pipe: Any, tmp_path: Path) -> None:
    before = weights(pipe)
    modules = adaptable(pipe.unet, pipe.text_encoder)
    loras = [
        (save_lora(tmp_path / "a.safetensors", *make_lora("kohya", modules)), 0.7),
        (save_lora(tmp_path / "b.safetensors", *make_lora("peft", modules, rank=3, seed=1)), -0.4),
    ]
    compare(changed(before, *loras), fused(pipe, *loras), before)
