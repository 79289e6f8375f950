"""The networks of a bundle: PyTorch modules with the inputs and outputs that the runtime knows.

Names of inputs and outputs are those that optimum gives to its ONNX files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from inpaintrt.bundle import AxisRange, TensorSpec
from inpaintrt.conditioning import step_inputs, step_outputs
from inpaintrt.families.sd import per_row_inputs
from inpaintrt_export.families.sd import condition_channels, vae_factor

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextModel

    from inpaintrt.bundle import Dtype

__all__ = [
    "Network",
    "Sizes",
    "StepNetwork",
    "TextEncoderNetwork",
    "UnetNetwork",
    "VaeDecoderNetwork",
    "VaeEncoderNetwork",
    "step_network",
    "text_encoder_network",
    "unet_network",
    "vae_decoder_network",
    "vae_encoder_network",
]

_TRACED_HEIGHT, _TRACED_WIDTH = 9, 11
"""No multiples of 8: with multiples, the exporter bakes in an upsampling that fails at other sizes."""

Sizes = Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class Network:
    """A module together with its inputs and outputs.

    Attributes:
        module: Takes the inputs in the order of `inputs` and returns the one output.
        inputs: Inputs by name; an axis with a name is dynamic.
        outputs: The output by name.
        traced_sizes: Sizes of the named axes with which the graph is traced.
        limits: For an input of whole numbers, how many values it may take, or the axis whose size says so.
    """

    module: nn.Module
    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]
    traced_sizes: Sizes
    limits: Mapping[str, int | str]


class TextEncoderNetwork(nn.Module):
    """CLIP's text encoder, ending at the last layer or, row by row, some layers before it."""

    def __init__(self, encoder: CLIPTextModel) -> None:
        super().__init__()
        self.encoder = encoder
        # transformers 5 holds the layers in the model itself, transformers 4 in its attribute text_model.
        self.final_layer_norm = getattr(encoder, "text_model", encoder).final_layer_norm

    def forward(self, input_ids: Tensor, clip_skip: Tensor) -> Tensor:
        """Encode tokens.

        Args:
            input_ids: `[batch, tokens]` int64.
            clip_skip: `[batch]` int64; k takes `hidden_states[-(k + 1)]`, so 0 is the last layer.

        Returns:
            `[batch, tokens, width]`, after the final layer norm, as diffusers' `clip_skip` has it.
        """
        states = torch.stack(self.encoder(input_ids, output_hidden_states=True).hidden_states, dim=1)
        rows = torch.arange(states.shape[0], device=states.device)
        chosen = states[rows, states.shape[1] - 1 - clip_skip]
        normed: Tensor = self.final_layer_norm(chosen)
        return normed


class VaeEncoderNetwork(nn.Module):
    """The VAE's encoder up to the parameters of the posterior; drawing from it is the runtime's."""

    def __init__(self, vae: AutoencoderKL, dtype: torch.dtype) -> None:
        super().__init__()
        self.vae = vae
        self.dtype = dtype

    def forward(self, sample: Tensor) -> Tensor:
        """Encode images.

        Args:
            sample: `[batch, 3, height, width]` float32 in [-1, 1].

        Returns:
            `[batch, 2 * channels, height/factor, width/factor]` float32: the means, then the log-variances,
            unscaled.
        """
        parameters: Tensor = self.vae.encode(sample.to(self.dtype)).latent_dist.parameters
        return parameters.to(torch.float32)


class VaeDecoderNetwork(nn.Module):
    """The VAE's decoder."""

    def __init__(self, vae: AutoencoderKL, dtype: torch.dtype) -> None:
        super().__init__()
        self.vae = vae
        self.dtype = dtype

    def forward(self, latent_sample: Tensor) -> Tensor:
        """Decode latents.

        Args:
            latent_sample: `[batch, channels, height, width]` float32, already divided by the scaling factor.

        Returns:
            `[batch, 3, factor*height, factor*width]` float32, about [-1, 1], not clamped.
        """
        image: Tensor = self.vae.decode(latent_sample.to(self.dtype)).sample
        return image.to(torch.float32)


class UnetNetwork(nn.Module):
    """The plain UNet."""

    def __init__(self, unet: nn.Module) -> None:
        super().__init__()
        self.unet = unet

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor,
        encoder_hidden_states: Tensor,
        timestep_cond: Tensor | None = None,
    ) -> Tensor:
        """Evaluate the UNet.

        Args:
            sample: `[batch, channels, height, width]`: noisy latents, then what it is conditioned on.
            timestep: `[batch]` float32.
            encoder_hidden_states: `[batch, tokens, width]`.
            timestep_cond: `[batch, width]`: the guidance scale's embedding, of LCM checkpoints.

        Returns:
            `[batch, latent_channels, height, width]`: what the checkpoint predicts (epsilon, v or the
            sample).
        """
        predicted: Tensor = self.unet(
            sample, timestep, encoder_hidden_states, timestep_cond=timestep_cond, return_dict=False
        )[0]
        return predicted


class StepNetwork(nn.Module):
    """One denoising step in PyTorch: what the composed step graph is compared with."""

    def __init__(self, unet: nn.Module, names: Sequence[str]) -> None:
        super().__init__()
        self.unet = unet
        self.names = names

    def forward(self, *tensors: Tensor) -> Tensor:
        """Advance every slot by one step.

        Args:
            tensors: What `inpaintrt.conditioning.step_inputs` describes, in its order.

        Returns:
            `[slots, 6, channels, height, width]` float32.
        """
        given = dict(zip(self.names, tensors, strict=True))
        state, context = given["state"], given["context"]
        sample = state[:, 0]
        if "condition" in given:
            sample = torch.cat([sample, given["condition"]], dim=1)
        embedding = given.get("guidance_embedding")
        sample = sample[given["row_slot"]].to(context.dtype)
        eps = self.unet(sample, given["timestep"], context, embedding).float()
        guided, own = (
            torch.einsum("sn,nchw->schw", given[name], eps) for name in ("guidance", "prompt_rows")
        )
        ratio = own.std(dim=(1, 2, 3)) / guided.std(dim=(1, 2, 3))
        phi = given["guidance_rescale"]
        factor = torch.where(phi > 0, phi * (ratio - 1) + 1, torch.ones_like(phi))
        added = (
            guided * factor[:, None, None, None],
            given["noise"],
            given["image_latents"],
            given["first_noise"],
        )
        columns = torch.cat([state, torch.stack(added, dim=1)], dim=1)
        product = torch.einsum("skj,sjchw->skchw", given["update"], columns)
        free = given["mask"] >= given["threshold"][:, None, None, None]
        x = torch.where(free, product[:, 0], product[:, -1])
        return torch.cat([x[:, None], product[:, 1:-1]], dim=1)


def _spec(dtype: Dtype, *shape: int | str, **ranges: AxisRange) -> TensorSpec:
    return TensorSpec(dtype=dtype, shape=shape, ranges=dict(ranges))


def _dtype_name(dtype: torch.dtype) -> Dtype:
    return "float16" if dtype == torch.float16 else "float32"


def _cast(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    # diffusers' own method warns of modules that are to stay in float32, even where there are none.
    return nn.Module.to(module, dtype)


def text_encoder_network(encoder: CLIPTextModel, dtype: torch.dtype) -> Network:
    """The text encoder in `dtype`, which is also the dtype of its output."""
    config = encoder.config
    name = _dtype_name(dtype)
    tokens = AxisRange(min=1, max=config.max_position_embeddings)
    return Network(
        module=TextEncoderNetwork(_cast(encoder, dtype)).eval(),
        inputs={
            "input_ids": _spec("int64", "batch", "tokens", tokens=tokens),
            "clip_skip": _spec("int64", "batch"),
        },
        outputs={"last_hidden_state": _spec(name, "batch", "tokens", config.hidden_size, tokens=tokens)},
        traced_sizes={"batch": 2, "tokens": min(77, tokens.max)},
        limits={"input_ids": config.vocab_size, "clip_skip": config.num_hidden_layers},
    )


def vae_encoder_network(vae: AutoencoderKL, dtype: torch.dtype) -> Network:
    """The VAE's encoder, computing in `dtype` between float32 ends."""
    factor = vae_factor(vae.config)
    parameters = _spec(
        "float32", "batch", 2 * vae.config.latent_channels, f"height/{factor}", f"width/{factor}"
    )
    return Network(
        module=VaeEncoderNetwork(_cast(vae, dtype), dtype).eval(),
        inputs={"sample": _spec("float32", "batch", 3, "height", "width")},
        outputs={"latent_parameters": parameters},
        traced_sizes={"batch": 2, "height": _TRACED_HEIGHT * factor, "width": _TRACED_WIDTH * factor},
        limits={},
    )


def vae_decoder_network(vae: AutoencoderKL, dtype: torch.dtype) -> Network:
    """The VAE's decoder, computing in `dtype` between float32 ends."""
    factor = vae_factor(vae.config)
    return Network(
        module=VaeDecoderNetwork(_cast(vae, dtype), dtype).eval(),
        inputs={"latent_sample": _spec("float32", "batch", vae.config.latent_channels, "height", "width")},
        outputs={"sample": _spec("float32", "batch", 3, f"{factor}*height", f"{factor}*width")},
        traced_sizes={"batch": 2, "height": _TRACED_HEIGHT, "width": _TRACED_WIDTH},
        limits={},
    )


def unet_network(unet: UNet2DConditionModel, dtype: torch.dtype) -> Network:
    """The plain UNet in `dtype`, but for the timestep, which is float32."""
    name, config = _dtype_name(dtype), unet.config
    inputs = {
        "sample": _spec(name, "batch", config.in_channels, "height", "width"),
        "timestep": _spec("float32", "batch"),
        "encoder_hidden_states": _spec(name, "batch", "tokens", config.cross_attention_dim),
    }
    if config.time_cond_proj_dim is not None:
        inputs["timestep_cond"] = _spec(name, "batch", config.time_cond_proj_dim)
    return Network(
        module=UnetNetwork(_cast(unet, dtype)).eval(),
        inputs=inputs,
        outputs={"out_sample": _spec(name, "batch", config.out_channels, "height", "width")},
        traced_sizes={"batch": 2, "tokens": 77, "height": _TRACED_HEIGHT, "width": _TRACED_WIDTH},
        limits={"timestep": 1000},
    )


def step_network(unet: UNet2DConditionModel, dtype: torch.dtype) -> Network:
    """The denoising step around a UNet, as the step graph computes it."""
    config = unet.config
    inputs = step_inputs(
        config.out_channels,
        condition_channels(config),
        per_row_inputs(config.cross_attention_dim, config.time_cond_proj_dim, _dtype_name(dtype)),
    )
    return Network(
        module=StepNetwork(UnetNetwork(_cast(unet, dtype)), tuple(inputs)).eval(),
        inputs=inputs,
        outputs=step_outputs(config.out_channels),
        traced_sizes={"slots": 2, "rows": 3, "tokens": 77, "height": _TRACED_HEIGHT, "width": _TRACED_WIDTH},
        limits={"row_slot": "slots", "timestep": 1000},
    )
