"""Differences of LyCORIS' kinds are those of the package lycoris-lora.

Its own `get_merged_weight` scales LoHa and LoKr twice (4.1.3), so that the weights are put together as its
`forward` does.
"""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from inpaintrt.lora import PADDED, find_changes, open_loras
from lora_files import save_lora

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from lycoris.functional.general import apply_dora_scale
    from lycoris.modules.full import FullModule
    from lycoris.modules.locon import LoConModule
    from lycoris.modules.loha import LohaModule
    from lycoris.modules.lokr import LokrModule
    from lycoris.modules.norms import NormModule

LAYERS: dict[str, Any] = {
    "linear": lambda: nn.Linear(12, 20),
    "1x1": lambda: nn.Conv2d(12, 20, 1),
    "3x3": lambda: nn.Conv2d(12, 20, 3),
}
KINDS: dict[str, tuple[Any, dict[str, Any]]] = {
    "locon": (LoConModule, {}),
    "locon tucker": (LoConModule, {"use_tucker": True}),
    "locon rslora": (LoConModule, {"rs_lora": True}),
    "loha": (LohaModule, {}),
    "loha tucker": (LohaModule, {"use_tucker": True}),
    "lokr": (LokrModule, {"lora_dim": 1}),
    "lokr full": (LokrModule, {"full_matrix": True}),
    "lokr both": (LokrModule, {"decompose_both": True, "lora_dim": 1}),
    "lokr tucker": (LokrModule, {"use_tucker": True, "lora_dim": 1}),
    "lokr factor 2": (LokrModule, {"factor": 2, "lora_dim": 2}),
    "dora": (LoConModule, {"weight_decompose": True}),
    "dora by column": (LoConModule, {"weight_decompose": True, "wd_on_out": False}),
    "loha dora": (LohaModule, {"weight_decompose": True}),
    "lokr dora": (LokrModule, {"weight_decompose": True, "lora_dim": 1}),
}


def randomize(module: nn.Module) -> None:
    generator = torch.Generator().manual_seed(1)
    for parameter in module.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.5 + 0.3


def ours(
    path: Path, layer: nn.Module, scale: float, name: str = "conv_out"
) -> dict[str, np.ndarray[Any, Any]]:
    after = {f"{name}.{key}": value.detach().numpy() for key, value in layer.named_parameters()}
    for parameter, changes in find_changes(open_loras([(path, scale)]), "denoiser", list(after)).items():
        for change, factor in changes:
            padded = ("denoiser", parameter) == PADDED
            after[parameter] = change.apply(after[parameter], factor, pads_channels=padded)
    return {parameter.removeprefix(f"{name}."): value for parameter, value in after.items()}


@torch.no_grad()
def theirs(module: Any, base: torch.Tensor, scale: float) -> torch.Tensor:
    difference: torch.Tensor = (
        module.make_weight() * module.scale
        if isinstance(module, LoConModule)
        else module.get_weight(module.shape)
    )
    if not module.wd:
        return base + scale * difference
    changed: torch.Tensor = module.apply_weight_decompose(base + difference, 1)
    return base + scale * (changed - base)


def write(path: Path, module: Any, flat: str = "lora_unet_conv_out") -> Path:
    return save_lora(path, {f"{flat}.{name}": value for name, value in module.custom_state_dict().items()})


@pytest.mark.parametrize("scale", [1.0, 0.7])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", LAYERS)
def test_differences_are_those_of_lycoris(tmp_path: Path, shape: str, kind: str, scale: float) -> None:
    torch.manual_seed(0)
    layer = LAYERS[shape]()
    make, options = KINDS[kind]
    module = make("layer", layer, **{"lora_dim": 3, "alpha": 1.5, **options})
    randomize(module)
    path = write(tmp_path / "a.safetensors", module)
    expected = theirs(module, layer.weight.data, scale)
    np.testing.assert_allclose(ours(path, layer, scale)["weight"], expected, rtol=2e-5, atol=2e-6)
    assert (expected - layer.weight).abs().max() > 0.05


def test_dora_of_columns_is_scaled_as_lycoris_function_does(tmp_path: Path) -> None:
    layer = LAYERS["linear"]()
    module = LoConModule("layer", layer, lora_dim=3, alpha=1.5, weight_decompose=True, wd_on_out=False)
    randomize(module)
    difference = module.make_weight() * module.scale
    expected = apply_dora_scale(layer.weight, difference, module.dora_scale, 0.3).detach()
    path = write(tmp_path / "a.safetensors", module)
    np.testing.assert_allclose(ours(path, layer, 0.3)["weight"], expected, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("shape", [*LAYERS, "norm"])
def test_full_differences_of_weights_and_biases(tmp_path: Path, shape: str) -> None:
    layer = LAYERS.get(shape, lambda: nn.GroupNorm(2, 12))()
    module: Any = NormModule("layer", layer) if shape == "norm" else FullModule("layer", layer)
    randomize(module)
    names = ("w_norm", "b_norm") if shape == "norm" else ("diff", "diff_b")
    values = (module.w_norm, module.b_norm) if shape == "norm" else (module.weight, module.bias)
    pairs = zip(names, values, strict=True)
    path = save_lora(
        tmp_path / "a.safetensors", {f"lora_unet_conv_out.{name}": value.data for name, value in pairs}
    )
    found = ours(path, layer, 0.5)
    with torch.no_grad():
        np.testing.assert_allclose(found["weight"], layer.weight + 0.5 * values[0], rtol=1e-6)
        np.testing.assert_allclose(found["bias"], layer.bias + 0.5 * values[1], rtol=1e-6)


@pytest.mark.parametrize("kind", ["locon", "locon tucker", "loha", "loha tucker", "lokr", "lokr full"])
def test_changes_of_conv_in_for_4_channels_are_padded_for_9(tmp_path: Path, kind: str) -> None:
    narrow, wide = nn.Conv2d(4, 16, 3), nn.Conv2d(9, 16, 3)
    make, options = KINDS[kind]
    module = make("layer", narrow, **{"lora_dim": 3, "alpha": 1.5, **options})
    randomize(module)
    path = write(tmp_path / "a.safetensors", module, "lora_unet_conv_in")
    found = ours(path, wide, 1.0, "conv_in")["weight"]
    expected = theirs(module, wide.weight.data[:, :4], 1.0)
    np.testing.assert_allclose(found[:, :4], expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(found[:, 4:], wide.weight.detach()[:, 4:])
