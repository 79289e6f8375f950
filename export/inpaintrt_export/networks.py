"""The networks of a bundle: PyTorch modules with the inputs and outputs that the runtime knows.

Names of inputs and outputs are those that optimum gives to its ONNX files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from diffusers import AutoencoderTiny
from torch import Tensor, nn

from inpaintrt.bundle import AxisRange, TensorSpec
from inpaintrt.conditioning import step_outputs
from inpaintrt_export.families.parts import UNET_INPUTS, vae_factor

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    from inpaintrt.bundle import Dtype
    from inpaintrt_export.families import Family

__all__ = [
    "Network",
    "Sizes",
    "StepNetwork",
    "TextEncoderNetwork",
    "UnetNetwork",
    "VaeDecoderNetwork",
    "VaeEncoderNetwork",
    "dtype_name",
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
        module: Takes the inputs by name, and returns the output or a tuple of them.
        inputs: Inputs by name; an axis with a name is dynamic.
        outputs: Outputs by name, in their order.
        traced_sizes: Sizes of the named axes with which the graph is traced.
        limits: For an input of whole numbers, how many values it may take, or the axis whose size says so.
    """

    module: nn.Module
    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]
    traced_sizes: Sizes
    limits: Mapping[str, int | str]


class TextEncoderNetwork(nn.Module):
    """CLIP's text encoder, ending at one of its layers or, row by row, some layers before it.

    Args:
        encoder: With or without a projection of the text as a whole.
        hidden_layer: Where it ends, counted from the last layer.
        final_norm: Whether the final layer norm follows.
    """

    def __init__(
        self,
        encoder: CLIPTextModel | CLIPTextModelWithProjection,
        *,
        hidden_layer: int = 0,
        final_norm: bool = True,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.hidden_layer = hidden_layer
        # transformers 5 holds the layers in the model itself, transformers 4 in its attribute text_model.
        norm = getattr(encoder, "text_model", encoder).final_layer_norm
        self.final_layer_norm = norm if final_norm else nn.Identity()

    def forward(self, input_ids: Tensor, clip_skip: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Encode tokens.

        Args:
            input_ids: `[batch, tokens]` int64.
            clip_skip: `[batch]` int64, layers to skip, counted from the one where the network ends.

        Returns:
            `[batch, tokens, width]`, as diffusers' `clip_skip` has it; of an encoder with a projection also
            the projected text `[batch, width]`, which no skipping changes.
        """
        encoded = self.encoder(input_ids, output_hidden_states=True)
        states = torch.stack(encoded.hidden_states, dim=1)
        rows = torch.arange(states.shape[0], device=states.device)
        chosen = states[rows, states.shape[1] - 1 - self.hidden_layer - clip_skip]
        normed: Tensor = self.final_layer_norm(chosen)
        return (normed, encoded.text_embeds) if hasattr(encoded, "text_embeds") else normed


class VaeEncoderNetwork(nn.Module):
    """The VAE's encoder up to the parameters of the posterior; drawing from it is the runtime's.

    A tiny VAE has no posterior: its encoder gives latents.
    """

    def __init__(self, vae: AutoencoderKL | AutoencoderTiny, dtype: torch.dtype) -> None:
        super().__init__()
        self.vae = vae
        self.dtype = dtype

    def forward(self, sample: Tensor) -> Tensor:
        """Encode images.

        Args:
            sample: `[batch, 3, height, width]` float32 in [-1, 1].

        Returns:
            `[batch, 2 * channels, height/factor, width/factor]` float32: the means, then the log-variances,
            unscaled; of a tiny VAE the unscaled latents `[batch, channels, height/factor, width/factor]`.
        """
        encoded = self.vae.encode(sample.to(self.dtype))
        found: Tensor = encoded.latents if "latents" in encoded else encoded.latent_dist.parameters
        return found.to(torch.float32)


class VaeDecoderNetwork(nn.Module):
    """The VAE's decoder."""

    def __init__(self, vae: AutoencoderKL | AutoencoderTiny, dtype: torch.dtype) -> None:
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
    """The plain UNet.

    Pooled prompts are float32 as sizes are until both are embedded: the exported Concat of halves and floats
    would have two types, which TensorRT refuses.
    """

    def __init__(self, unet: nn.Module) -> None:
        super().__init__()
        self.unet = unet

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor,
        encoder_hidden_states: Tensor,
        timestep_cond: Tensor | None = None,
        text_embeds: Tensor | None = None,
        time_ids: Tensor | None = None,
    ) -> Tensor:
        """Evaluate the UNet.

        Args:
            sample: `[batch, channels, height, width]`: noisy latents, then what it is conditioned on.
            timestep: `[batch]` float32.
            encoder_hidden_states: `[batch, tokens, width]`.
            timestep_cond: `[batch, width]`: the guidance scale's embedding, of LCM checkpoints.
            text_embeds: `[batch, width]`: pooled prompts, of SDXL.
            time_ids: `[batch, 5 or 6]` float32: sizes, of SDXL.

        Returns:
            `[batch, latent_channels, height, width]`: what the checkpoint predicts (epsilon, v or the
            sample).
        """
        added = None
        if text_embeds is not None:
            added = {"text_embeds": text_embeds.float(), "time_ids": time_ids}
        predicted: Tensor = self.unet(
            sample,
            timestep,
            encoder_hidden_states,
            timestep_cond=timestep_cond,
            added_cond_kwargs=added,
            return_dict=False,
        )[0]
        return predicted


class StepNetwork(nn.Module):
    """One denoising step in PyTorch: what the composed step graph is compared with."""

    def __init__(self, unet: nn.Module) -> None:
        super().__init__()
        self.unet = unet

    def forward(self, **given: Tensor) -> Tensor:
        """Advance every slot by one step.

        Args:
            given: What `inpaintrt.conditioning.step_inputs` describes.

        Returns:
            `[slots, 6, channels, height, width]` float32.
        """
        state = given["state"]
        sample = state[:, 0]
        if "condition" in given:
            sample = torch.cat([sample, given["condition"]], dim=1)
        sample = sample[given["row_slot"]].to(given["context"].dtype)
        rows = {unet_name: given[name] for name, unet_name in UNET_INPUTS.items() if name in given}
        eps = self.unet(sample, **rows).float()
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


def dtype_name(dtype: torch.dtype) -> Dtype:
    """NumPy's name of what a network computes in."""
    return "float16" if dtype == torch.float16 else "float32"


def _cast(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    # diffusers' own method warns of modules that are to stay in float32, even where there are none.
    return nn.Module.to(module, dtype)


def text_encoder_network(
    encoder: CLIPTextModel | CLIPTextModelWithProjection, dtype: torch.dtype, family: Family
) -> Network:
    """A text encoder in `dtype`, which is also the dtype of its outputs."""
    config = encoder.config
    name = dtype_name(dtype)
    tokens = AxisRange(min=1, max=config.max_position_embeddings)
    outputs = {"last_hidden_state": _spec(name, "batch", "tokens", config.hidden_size, tokens=tokens)}
    if hasattr(encoder, "text_projection"):
        outputs["text_embeds"] = _spec(name, "batch", config.projection_dim)
    module = TextEncoderNetwork(
        _cast(encoder, dtype), hidden_layer=family.hidden_layer, final_norm=family.final_norm
    )
    return Network(
        module=module.eval(),
        inputs={
            "input_ids": _spec("int64", "batch", "tokens", tokens=tokens),
            "clip_skip": _spec("int64", "batch"),
        },
        outputs=outputs,
        traced_sizes={"batch": 2, "tokens": min(77, tokens.max)},
        limits={"input_ids": config.vocab_size, "clip_skip": config.num_hidden_layers},
    )


def vae_encoder_network(vae: AutoencoderKL | AutoencoderTiny, dtype: torch.dtype) -> Network:
    """The VAE's encoder, computing in `dtype` between float32 ends."""
    factor, channels = vae_factor(vae.config), vae.config.latent_channels
    size = f"height/{factor}", f"width/{factor}"
    outputs = {"latent_parameters": _spec("float32", "batch", 2 * channels, *size)}
    if isinstance(vae, AutoencoderTiny):
        outputs = {"latents": _spec("float32", "batch", channels, *size)}
    return Network(
        module=VaeEncoderNetwork(_cast(vae, dtype), dtype).eval(),
        inputs={"sample": _spec("float32", "batch", 3, "height", "width")},
        outputs=outputs,
        traced_sizes={"batch": 2, "height": _TRACED_HEIGHT * factor, "width": _TRACED_WIDTH * factor},
        limits={},
    )


def vae_decoder_network(vae: AutoencoderKL | AutoencoderTiny, dtype: torch.dtype) -> Network:
    """The VAE's decoder, computing in `dtype` between float32 ends."""
    factor = vae_factor(vae.config)
    return Network(
        module=VaeDecoderNetwork(_cast(vae, dtype), dtype).eval(),
        inputs={"latent_sample": _spec("float32", "batch", vae.config.latent_channels, "height", "width")},
        outputs={"sample": _spec("float32", "batch", 3, f"{factor}*height", f"{factor}*width")},
        traced_sizes={"batch": 2, "height": _TRACED_HEIGHT, "width": _TRACED_WIDTH},
        limits={},
    )


_FLOAT32_INPUTS = frozenset({"timestep", "time_ids"})


def unet_network(unet: UNet2DConditionModel, dtype: torch.dtype, specs: Mapping[str, TensorSpec]) -> Network:
    """The plain UNet in `dtype`, but for the timestep and for sizes, which are float32.

    Args:
        unet: The UNet.
        dtype: What it computes in.
        specs: The inputs of a step around it.
    """
    name, config = dtype_name(dtype), unet.config
    inputs = {"sample": _spec(name, "batch", config.in_channels, "height", "width")} | {
        unet_name: _spec(
            "float32" if unet_name in _FLOAT32_INPUTS else name, "batch", *specs[step_name].shape[1:]
        )
        for step_name, unet_name in UNET_INPUTS.items()
        if step_name in specs
    }
    return Network(
        module=UnetNetwork(_cast(unet, dtype)).eval(),
        inputs=inputs,
        outputs={"out_sample": _spec(name, "batch", config.out_channels, "height", "width")},
        traced_sizes={"batch": 2, "tokens": 77, "height": _TRACED_HEIGHT, "width": _TRACED_WIDTH},
        limits={"timestep": 1000},
    )


def step_network(unet: UNet2DConditionModel, dtype: torch.dtype, specs: Mapping[str, TensorSpec]) -> Network:
    """The denoising step around a UNet, as the step graph computes it.

    Args:
        unet: The UNet.
        dtype: What it computes in.
        specs: The inputs of the step.
    """
    return Network(
        module=StepNetwork(UnetNetwork(_cast(unet, dtype))).eval(),
        inputs=specs,
        outputs=step_outputs(unet.config.out_channels),
        traced_sizes={"slots": 2, "rows": 3, "tokens": 77, "height": _TRACED_HEIGHT, "width": _TRACED_WIDTH},
        limits={"row_slot": "slots", "timestep": 1000},
    )
