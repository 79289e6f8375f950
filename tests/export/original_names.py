"""The names that the first Stable Diffusion code base gave to weights, and those of SDXL's."""

import re
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from inpaintrt_export.sources.checkpoint import PARTS, Part

__all__ = [
    "Weights",
    "read_parts",
    "save",
    "text_encoder_to_open_clip",
    "to_original",
    "xl_to_original",
]

Weights = dict[str, Tensor]

RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
UNET_ENDS = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
}
# The tiny UNet has two levels of one layer (two on the way up).
UNET_BLOCKS = {
    "down_blocks.0.resnets.0": "input_blocks.1.0",
    "down_blocks.0.attentions.0": "input_blocks.1.1",
    "down_blocks.0.downsamplers.0.conv": "input_blocks.2.0.op",
    "down_blocks.1.resnets.0": "input_blocks.3.0",
    "mid_block.resnets.0": "middle_block.0",
    "mid_block.attentions.0": "middle_block.1",
    "mid_block.resnets.1": "middle_block.2",
    "up_blocks.0.resnets.0": "output_blocks.0.0",
    "up_blocks.0.resnets.1": "output_blocks.1.0",
    "up_blocks.0.upsamplers.0.conv": "output_blocks.1.1.conv",
    "up_blocks.1.resnets.0": "output_blocks.2.0",
    "up_blocks.1.attentions.0": "output_blocks.2.1",
    "up_blocks.1.resnets.1": "output_blocks.3.0",
    "up_blocks.1.attentions.1": "output_blocks.3.1",
}
# Of SDXL, the second level alone has attention.
XL_UNET_BLOCKS = {
    "down_blocks.0.resnets.0": "input_blocks.1.0",
    "down_blocks.0.downsamplers.0.conv": "input_blocks.2.0.op",
    "down_blocks.1.resnets.0": "input_blocks.3.0",
    "down_blocks.1.attentions.0": "input_blocks.3.1",
    "mid_block.resnets.0": "middle_block.0",
    "mid_block.attentions.0": "middle_block.1",
    "mid_block.resnets.1": "middle_block.2",
    "up_blocks.0.resnets.0": "output_blocks.0.0",
    "up_blocks.0.attentions.0": "output_blocks.0.1",
    "up_blocks.0.resnets.1": "output_blocks.1.0",
    "up_blocks.0.attentions.1": "output_blocks.1.1",
    "up_blocks.0.upsamplers.0.conv": "output_blocks.1.2.conv",
    "up_blocks.1.resnets.0": "output_blocks.2.0",
    "up_blocks.1.resnets.1": "output_blocks.3.0",
}
ATTENTION = {"to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out", "group_norm": "norm"}


def rename_start(name: str, names: dict[str, str]) -> str:
    for new, old in names.items():
        if name.startswith(f"{new}."):
            return old + name[len(new) :]
    return name


def unet_to_original(weights: Weights) -> Weights:
    blocks = XL_UNET_BLOCKS if "add_embedding.linear_1.weight" in weights else UNET_BLOCKS
    renamed = {}
    for name, weight in weights.items():
        old = rename_start(rename_start(name, blocks), UNET_ENDS)
        if ".resnets." in name:
            for new_part, old_part in RESNET.items():
                old = old.replace(f".{new_part}.", f".{old_part}.")
        renamed[f"model.diffusion_model.{old}"] = weight
    return renamed


def vae_to_original(weights: Weights) -> Weights:
    last = max(int(name.split(".")[2]) for name in weights if name.startswith("decoder.up_blocks."))
    renamed = {}
    for name, weight in weights.items():
        old = re.sub(r"down_blocks\.(\d)\.resnets", r"down.\1.block", name)
        old = re.sub(r"down_blocks\.(\d)\.downsamplers\.0", r"down.\1.downsample", old)
        old = re.sub(r"up_blocks\.(\d)\.resnets", lambda hit: f"up.{last - int(hit[1])}.block", old)
        old = re.sub(r"up_blocks\.(\d)\.upsamplers\.0", lambda hit: f"up.{last - int(hit[1])}.upsample", old)
        old = re.sub(r"mid_block\.resnets\.(\d)", lambda hit: f"mid.block_{int(hit[1]) + 1}", old)
        old = old.replace("conv_shortcut", "nin_shortcut").replace("conv_norm_out", "norm_out")
        if "attentions" in old:
            for new_part, old_part in ATTENTION.items():
                old = old.replace(f".{new_part}.", f".{old_part}.")
            old = old.replace("mid_block.attentions.0", "mid.attn_1")
            weight = weight[:, :, None, None] if weight.ndim == 2 else weight
        renamed[f"first_stage_model.{old}"] = weight
    return renamed


def text_encoder_to_original(
    weights: Weights, prefix: str = "cond_stage_model.transformer.text_model."
) -> Weights:
    return {prefix + name.removeprefix("text_model."): weight for name, weight in weights.items()}


def text_encoder_to_open_clip(weights: Weights, prefix: str = "cond_stage_model.model.") -> Weights:
    """As in Stable Diffusion 2: queries, keys and values in one matrix; a projection is transposed."""
    plain = {name.removeprefix("text_model."): weight for name, weight in weights.items()}
    renamed = {
        f"{prefix}positional_embedding": plain["embeddings.position_embedding.weight"],
        f"{prefix}token_embedding.weight": plain["embeddings.token_embedding.weight"],
        f"{prefix}ln_final.weight": plain["final_layer_norm.weight"],
        f"{prefix}ln_final.bias": plain["final_layer_norm.bias"],
    }
    if "text_projection.weight" in plain:
        renamed[f"{prefix}text_projection"] = plain["text_projection.weight"].T
        renamed[f"{prefix}logit_scale"] = torch.tensor(4.6)  # of the model's other half
    names = {
        "self_attn.out_proj": "attn.out_proj",
        "layer_norm1": "ln_1",
        "layer_norm2": "ln_2",
        "mlp.fc1": "mlp.c_fc",
        "mlp.fc2": "mlp.c_proj",
    }
    layers = 1 + max(int(name.split(".")[2]) for name in plain if name.startswith("encoder.layers."))
    for index in range(layers):
        old, new = f"{prefix}transformer.resblocks.{index}.", f"encoder.layers.{index}."
        for kind in ("weight", "bias"):
            parts = [plain[f"{new}self_attn.{part}_proj.{kind}"] for part in "qkv"]
            renamed[f"{old}attn.in_proj_{kind}"] = torch.cat(parts)
            for new_part, old_part in names.items():
                renamed[f"{old}{old_part}.{kind}"] = plain[f"{new}{new_part}.{kind}"]
    return renamed


def read_parts(checkpoint: Path) -> dict[Part, Weights]:
    """The weights of every part that a folder has."""
    there = [part for part in PARTS if (checkpoint / part).is_dir()]
    stems = {part: "model" if part.startswith("text") else "diffusion_pytorch_model" for part in there}
    return {part: load_file(checkpoint / part / f"{stems[part]}.safetensors") for part in there}


def to_original(checkpoint: Path, *, open_clip: bool = False) -> Weights:
    """A checkpoint of Stable Diffusion 1.x, or 2.x with OpenCLIP's names."""
    parts = read_parts(checkpoint)
    convert = text_encoder_to_open_clip if open_clip else text_encoder_to_original
    return {
        **convert(parts["text_encoder"]),
        **vae_to_original(parts["vae"]),
        **unet_to_original(parts["unet"]),
    }


def xl_to_original(checkpoint: Path) -> Weights:
    """A checkpoint of SDXL; of refiners, OpenCLIP's text encoder is the first and only one."""
    parts = read_parts(checkpoint)
    texts: Weights = {}
    if "text_encoder" in parts:
        prefix = "conditioner.embedders.0.transformer.text_model."
        texts = text_encoder_to_original(parts["text_encoder"], prefix)
    place = f"conditioner.embedders.{int('text_encoder' in parts)}.model."
    return {
        **texts,
        **text_encoder_to_open_clip(parts["text_encoder_2"], place),
        **vae_to_original(parts["vae"]),
        **unet_to_original(parts["unet"]),
    }


def save(weights: Weights, path: Path, metadata: dict[str, str] | None = None) -> None:
    """Write weights to a file."""
    save_file({name: weight.contiguous() for name, weight in weights.items()}, path, metadata)
