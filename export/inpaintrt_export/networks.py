"""The networks of a bundle: PyTorch modules with the inputs and outputs that the runtime knows.

Names of inputs and outputs are those that optimum gives to its ONNX files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from inpaintrt.bundle import AxisRange, TensorSpec
from inpaintrt_export.step_graph import step_inputs, step_outputs

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

LATENT_CHANNELS = 4
UNET_CHANNELS = 9
VAE_FACTOR = 8

Sizes = Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class Network:
    """A module together with its inputs and outputs.

    Attributes:
        module: Takes the inputs in the order of `inputs` and returns the one output.
        inputs: Inputs by name; an axis with a name is dynamic.
        outputs: The output by name.
        traced_sizes: Sizes of the named axes with which the graph is traced. Latent sizes are no multiples of
            8: with multiples, the exporter bakes in an upsampling that fails at other sizes.
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
        """Encode pictures.

        Args:
            sample: `[batch, 3, height, width]` float32 in [-1, 1].

        Returns:
            `[batch, 8, height/8, width/8]` float32: four means, then four log-variances, unscaled.
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
            latent_sample: `[batch, 4, height, width]` float32, already divided by the scaling factor.

        Returns:
            `[batch, 3, 8*height, 8*width]` float32, about [-1, 1], not clamped.
        """
        picture: Tensor = self.vae.decode(latent_sample.to(self.dtype)).sample
        return picture.to(torch.float32)


class UnetNetwork(nn.Module):
    """The plain UNet."""

    def __init__(self, unet: nn.Module) -> None:
        super().__init__()
        self.unet = unet

    def forward(self, sample: Tensor, timestep: Tensor, encoder_hidden_states: Tensor) -> Tensor:
        """Evaluate the UNet.

        Args:
            sample: `[batch, 9, height, width]`: noisy latents, mask, latents of the masked picture.
            timestep: `[batch]` float32.
            encoder_hidden_states: `[batch, tokens, width]`.

        Returns:
            `[batch, 4, height, width]`: what the checkpoint predicts (epsilon or v).
        """
        predicted: Tensor = self.unet(sample, timestep, encoder_hidden_states, return_dict=False)[0]
        return predicted


class StepNetwork(nn.Module):
    """One denoising step in PyTorch: what the composed step graph is compared with."""

    def __init__(self, unet: nn.Module) -> None:
        super().__init__()
        self.unet = unet

    def forward(
        self,
        state: Tensor,
        condition: Tensor,
        row_slot: Tensor,
        timestep: Tensor,
        context: Tensor,
        guidance: Tensor,
        update: Tensor,
        noise: Tensor,
    ) -> Tensor:
        """Advance every slot by one step.

        Args:
            state: `[slots, 6, 4, height, width]` float32: x, and the sampler's history.
            condition: `[slots, 5, height, width]` float32: mask, latents of the masked picture.
            row_slot: `[rows]` int64: the slot that a row belongs to.
            timestep: `[rows]` float32.
            context: `[rows, tokens, width]`: embeddings of a row's prompt, in the text encoder's dtype.
            guidance: `[slots, rows]` float32: weights of the rows in each slot's guided prediction.
            update: `[slots, 6, 8]` float32: the sampler's matrix.
            noise: `[slots, 4, height, width]` float32.

        Returns:
            `[slots, 6, 4, height, width]` float32.
        """
        sample = torch.cat([state[:, 0], condition], dim=1)[row_slot].to(context.dtype)
        eps = self.unet(sample, timestep, context).float()
        guided = torch.einsum("sn,nchw->schw", guidance, eps)
        tensors = torch.cat([state, guided[:, None], noise[:, None]], dim=1)
        return torch.einsum("skj,sjchw->skchw", update, tensors)


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
    return Network(
        module=VaeEncoderNetwork(_cast(vae, dtype), dtype).eval(),
        inputs={"sample": _spec("float32", "batch", 3, "height", "width")},
        outputs={"latent_parameters": _spec("float32", "batch", 2 * LATENT_CHANNELS, "height/8", "width/8")},
        traced_sizes={"batch": 2, "height": 9 * VAE_FACTOR, "width": 11 * VAE_FACTOR},
        limits={},
    )


def vae_decoder_network(vae: AutoencoderKL, dtype: torch.dtype) -> Network:
    """The VAE's decoder, computing in `dtype` between float32 ends."""
    return Network(
        module=VaeDecoderNetwork(_cast(vae, dtype), dtype).eval(),
        inputs={"latent_sample": _spec("float32", "batch", LATENT_CHANNELS, "height", "width")},
        outputs={"sample": _spec("float32", "batch", 3, "8*height", "8*width")},
        traced_sizes={"batch": 2, "height": 9, "width": 11},
        limits={},
    )


def unet_network(unet: UNet2DConditionModel, dtype: torch.dtype) -> Network:
    """The plain UNet in `dtype`, but for the timestep, which is float32."""
    name = _dtype_name(dtype)
    width = unet.config.cross_attention_dim
    return Network(
        module=UnetNetwork(_cast(unet, dtype)).eval(),
        inputs={
            "sample": _spec(name, "batch", UNET_CHANNELS, "height", "width"),
            "timestep": _spec("float32", "batch"),
            "encoder_hidden_states": _spec(name, "batch", "tokens", width),
        },
        outputs={"out_sample": _spec(name, "batch", LATENT_CHANNELS, "height", "width")},
        traced_sizes={"batch": 2, "tokens": 77, "height": 9, "width": 11},
        limits={"timestep": 1000},
    )


def step_network(unet: UNet2DConditionModel, dtype: torch.dtype) -> Network:
    """The denoising step around a UNet, as the step graph computes it."""
    return Network(
        module=StepNetwork(UnetNetwork(_cast(unet, dtype))).eval(),
        inputs=step_inputs(unet.config.cross_attention_dim, _dtype_name(dtype)),
        outputs=step_outputs(),
        traced_sizes={"slots": 2, "rows": 3, "tokens": 77, "height": 9, "width": 11},
        limits={"row_slot": "slots", "timestep": 1000},
    )
