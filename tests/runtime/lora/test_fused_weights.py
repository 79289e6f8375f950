"""LoRAs change weights as diffusers' `load_lora_weights` and `fuse_lora` do."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from diffusers import StableDiffusionInpaintPipeline
from numpy.typing import NDArray

from inpaintrt.lora import PADDED, find_changes, open_loras
from lora_files import FORMATS, Format, adaptable, make_lora, save_lora

Weights = dict[tuple[str, str], NDArray[np.float32]]

_PARTS = {"denoiser": "unet", "text_encoder": "text_encoder"}


@pytest.fixture(scope="module")
def pipe(tiny_checkpoint: Path) -> Any:
    pipe: Any = StableDiffusionInpaintPipeline.from_pretrained(tiny_checkpoint, safety_checker=None)
    return pipe


def weights(pipe: Any) -> Weights:
    found = {}
    for component, part in _PARTS.items():
        for name, value in getattr(pipe, part).state_dict().items():
            plain = name.replace(".base_layer.", ".")
            prefix = "text_model." if part == "text_encoder" and not name.startswith("text_model.") else ""
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


def compare(ours: Weights, theirs: Weights, before: Weights) -> None:
    assert ours.keys() == theirs.keys()
    for key, value in theirs.items():
        np.testing.assert_allclose(ours[key], value, rtol=1e-5, atol=2e-6, err_msg=str(key))
    moved = {key[0] for key in ours if not np.array_equal(ours[key], before[key])}
    assert moved == set(_PARTS)


@pytest.mark.parametrize("scale", [1.0, 0.6])
@pytest.mark.parametrize("layout", FORMATS)
def test_every_format_changes_weights_as_in_diffusers(
    pipe: Any, tmp_path: Path, layout: Format, scale: float
) -> None:
    before = weights(pipe)
    modules = adaptable(pipe.unet, pipe.text_encoder, convolutions=layout in ("kohya", "peft"))
    path = save_lora(tmp_path / "a.safetensors", *make_lora(layout, modules))
    compare(changed(before, (path, scale)), fused(pipe, (path, scale)), before)
