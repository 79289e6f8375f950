"""Modules are found by the names of kohya-ss, PEFT and diffusers, as diffusers' own conversion finds them."""

from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.loaders.lora_conversion_utils import (
    _convert_non_diffusers_lora_to_diffusers,
    _maybe_map_sgm_blocks_to_diffusers,
)
from diffusers.utils import convert_unet_state_dict_to_peft
from torch import nn

from inpaintrt.lora.modules import ModuleNames, original_name

SDXL: dict[str, Any] = {
    "block_out_channels": (4, 8, 8),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2, 3),
    "attention_head_dim": (2, 2, 2),
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 4,
    "projection_class_embeddings_input_dim": 32,
    "use_linear_projection": True,
    "cross_attention_dim": 16,
    "norm_num_groups": 2,
}
REFINER: dict[str, Any] = {
    **SDXL,
    "block_out_channels": (4, 8, 8, 8),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": 2,
    "attention_head_dim": (2, 2, 2, 2),
}


def unet(**config: Any) -> UNet2DConditionModel:
    with torch.device("meta"):
        return UNet2DConditionModel(**config)


def adaptable(model: nn.Module) -> list[str]:
    return [name for name, part in model.named_modules() if isinstance(part, nn.Linear | nn.Conv2d)]


def test_sdxl_names_of_kohya_are_those_that_diffusers_converts() -> None:
    model = unet(**SDXL)
    modules = adaptable(model)
    names = ModuleNames("denoiser", modules)
    assert len(modules) > 100
    state = {}
    for module in modules:
        original = original_name(module, modules)
        assert original is not None
        flat = original.replace(".", "_")
        assert names.find(flat, flat=True) == module
        for factor in ("down", "up"):
            state[f"lora_unet_{flat}.lora_{factor}.weight"] = module
    mapped = _maybe_map_sgm_blocks_to_diffusers(state, model.config)
    converted, _ = _convert_non_diffusers_lora_to_diffusers(mapped)
    peft = convert_unet_state_dict_to_peft(converted)
    assert {name.removeprefix("unet.").partition(".lora_")[0]: module for name, module in peft.items()} == {
        module: module for module in modules
    }


def test_original_names_of_the_refiner_count_on_over_all_blocks() -> None:
    modules = adaptable(unet(**REFINER))
    names = {module: original_name(module, modules) for module in modules}
    assert names["down_blocks.2.downsamplers.0.conv"] == "input_blocks.9.0.op"
    assert names["up_blocks.0.upsamplers.0.conv"] == "output_blocks.2.1.conv"
    assert names["up_blocks.1.upsamplers.0.conv"] == "output_blocks.5.2.conv"
    assert len(set(names.values())) == len(modules)


@pytest.mark.parametrize(
    "module", ["foo", "down_blocks.0.motion_modules.0.proj_in", "mid_block.resnets.0.foo"]
)
def test_what_the_original_unet_lacks_has_no_original_name(module: str) -> None:
    assert original_name(module, [module, "down_blocks.0.resnets.0.conv1"]) is None


ATTENTION = "down_blocks.0.attentions.0.transformer_blocks.0.attn1"
LAYER = "text_model.encoder.layers.0"


@pytest.mark.parametrize(
    ("component", "name", "flat", "module"),
    [
        (
            "denoiser",
            "down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_out_0",
            True,
            f"{ATTENTION}.to_out.0",
        ),
        ("denoiser", f"{ATTENTION}.to_q", False, f"{ATTENTION}.to_q"),
        ("denoiser", f"{ATTENTION}.processor.to_q", False, f"{ATTENTION}.to_q"),
        ("denoiser", f"{ATTENTION}.processor.to_out", False, f"{ATTENTION}.to_out.0"),
        ("denoiser", f"{ATTENTION}.to_x", False, None),
        ("text_encoder", "text_model_encoder_layers_0_self_attn_q_proj", True, f"{LAYER}.self_attn.q_proj"),
        ("text_encoder", f"{LAYER}.self_attn.to_out", False, f"{LAYER}.self_attn.out_proj"),
        ("text_encoder", "encoder.layers.0.mlp.fc1", False, f"{LAYER}.mlp.fc1"),
        ("text_encoder_2", "text_projection", True, "text_projection"),
        ("text_encoder_2", "text_projection", False, "text_projection"),
        ("text_encoder", "text_model_encoder_layers_1_mlp_fc1", True, None),
    ],
)
def test_names_of_every_format_are_found(component: str, name: str, flat: bool, module: str | None) -> None:
    modules = [f"{ATTENTION}.to_q", f"{ATTENTION}.to_out.0", "text_projection"]
    modules += [f"{LAYER}.{part}" for part in ("self_attn.q_proj", "self_attn.out_proj", "mlp.fc1")]
    assert ModuleNames(component, modules).find(name, flat=flat) == module
