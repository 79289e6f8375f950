"""Checkpoints of the real architectures with random weights, for tests, benchmarks and builds."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, cast

import diffusers
import torch
from diffusers import AutoencoderTiny
from torch import nn

from inpaintrt.bundle import TEXT_ENCODERS, Checkpoint
from inpaintrt.errors import SourceError
from inpaintrt_export.families import find_family
from inpaintrt_export.families.parts import make_part, part_class
from inpaintrt_export.sources.checkpoint import predicting
from inpaintrt_export.sources.layouts import LAYOUTS, TINY_VAES
from inpaintrt_export.tokenizer import END_TOKEN, START_TOKEN, clip_tokenizer, train_vocabulary

if TYPE_CHECKING:
    from pathlib import Path

    from diffusers import AutoencoderKL, UNet2DConditionModel
    from tokenizers import Tokenizer

    from inpaintrt.bundle import PredictionType
    from inpaintrt_export.sources.checkpoint import Part
    from inpaintrt_export.tokenizer import Vocabulary

__all__ = ["PREFIX", "SyntheticSource", "SyntheticTinyVae", "save_checkpoint", "save_tiny_vae"]

PREFIX = "synthetic:"

_CORPUS = (
    "a photo of a red balloon floating over a calm lake at sunset, highly detailed",
    "an oil painting of an old wooden house with a green door and white windows",
    "a small brown dog sitting on a bench in the park, portrait, soft light",
    "the blue car in front of a stone bridge, heavy rain, dramatic sky",
    "two yellow flowers in a glass vase on the kitchen table near the window",
    "a snow covered mountain behind a forest of tall trees, morning fog",
    "a cup of coffee and a slice of cake, studio photography, sharp focus",
    "a boat with a large sail on the open sea, watercolor, pastel colors",
    "low quality, blurry, watermark, text, deformed, extra fingers",
)


class SyntheticSource:
    """A checkpoint that is made up part by part, the same for the same name and seed."""

    def __init__(self, name: str, seed: int, *, prediction_type: PredictionType | None = None) -> None:
        layout = LAYOUTS.get(name.removeprefix(PREFIX))
        if layout is None:
            raise SourceError(
                "unknown synthetic checkpoint",
                received=name,
                expected=", ".join(PREFIX + known for known in LAYOUTS),
            )
        self._name = name
        self._layout = layout
        self._seed = seed
        self._prediction_type = prediction_type

    def has(self, part: Part) -> bool:
        """Whether the checkpoint has a part."""
        return part in self._layout.parts

    @property
    def parts(self) -> tuple[Part, ...]:
        """All parts."""
        return tuple(self._layout.parts)

    def pipeline_config(self) -> dict[str, Any]:
        """What the `model_index.json` says beside the classes."""
        return dict(self._layout.pipeline)

    def config(self, part: Part) -> dict[str, Any]:
        """The part's `config.json`."""
        return dict(self._layout.parts[part])

    def load(self, part: Part) -> nn.Module:
        """The part in float32 with weights drawn from the seed."""
        generator = torch.Generator().manual_seed(self._seed)
        with torch.no_grad():
            model = _make(part, self.config(part), generator)
        return model.eval()

    def vocabulary(self) -> Vocabulary:
        """A byte-pair vocabulary of the architecture's size."""
        return train_vocabulary(self._layout.vocabulary, _CORPUS)

    def tokenizer(self, part: Part) -> tuple[Tokenizer, int]:
        """A text encoder's tokenizer, and the id of the token that pads a window."""
        vocabulary = self.vocabulary()
        return clip_tokenizer(vocabulary), vocabulary.ids[self._layout.padding[part]]

    def scheduler_config(self) -> dict[str, Any]:
        """The `scheduler_config.json`."""
        return predicting(self._layout.scheduler, self._prediction_type)

    def origin(self) -> Checkpoint:
        """Name and seed."""
        return Checkpoint(id=self._name, revision=f"seed {self._seed}")


class SyntheticTinyVae:
    """A tiny VAE that is made up, the same for the same name and seed.

    Raises:
        SourceError: There is none of that name.
    """

    def __init__(self, name: str, seed: int) -> None:
        config = TINY_VAES.get(name.removeprefix(PREFIX))
        if config is None:
            raise SourceError(
                "unknown synthetic tiny VAE",
                received=name,
                expected=", ".join(PREFIX + known for known in TINY_VAES),
            )
        self._name = name
        self._config = config
        self._seed = seed

    def config(self) -> dict[str, Any]:
        """The `config.json`."""
        return dict(self._config)

    def load(self, part: Part) -> nn.Module:
        """The VAE in float32 with weights drawn from the seed."""
        generator = torch.Generator().manual_seed(self._seed)
        with torch.no_grad():
            model = _make(part, self.config(), generator)
        return model.eval()

    def origin(self) -> Checkpoint:
        """Name and seed."""
        return Checkpoint(id=self._name, revision=f"seed {self._seed}")


def _make(part: Part, config: dict[str, Any], generator: torch.Generator) -> nn.Module:
    made: nn.Module
    match part:
        case "vae" | "tiny_vae":
            tiny = part_class(part, config) is AutoencoderTiny
            made = _make_tiny_vae(config, generator) if tiny else _make_vae(config, generator)
        case "unet":
            made = _make_unet(config, generator)
        case _:
            made = make_part(part, config)
            _fill(made, generator)
    return made


def _make_vae(config: dict[str, Any], generator: torch.Generator) -> AutoencoderKL:
    """Posterior means of about unit variance once scaled, and images that span [-1, 1]."""
    with torch.device("meta"):
        vae = cast("AutoencoderKL", make_part("vae", config))
    _fill(vae.to_empty(device="cpu"), generator)
    channels = config["latent_channels"]
    images = torch.rand(2, 3, 64, 64, generator=generator) * 2 - 1
    means, log_variances = vae.encode(images).latent_dist.parameters.split(channels, dim=1)
    scales = torch.tensor([1 / config["scaling_factor"] / means.std(), 1 / log_variances.std()])
    biases = torch.tensor([0.0, -6.0])
    _rescale(vae.quant_conv, scales.repeat_interleave(channels), biases.repeat_interleave(channels))
    latents = torch.randn(2, channels, 8, 8, generator=generator) / config["scaling_factor"]
    _rescale(vae.decoder.conv_out, 0.5 / vae.decode(latents).sample.std(), torch.zeros(3))
    return vae


def _make_tiny_vae(config: dict[str, Any], generator: torch.Generator) -> AutoencoderTiny:
    """Latents of about unit variance, and images that span [-1, 1]."""
    vae = cast("AutoencoderTiny", make_part("tiny_vae", config))
    _fill(vae, generator)
    images = torch.rand(2, 3, 64, 64, generator=generator) * 2 - 1
    _standardize(vae.encoder.layers[-1], vae.encode(images).latents, mean=0.0, deviation=1.0)
    latents = torch.randn(2, config["latent_channels"], 8, 8, generator=generator)
    decoded = vae.decode(latents).sample
    # The decoder's last layer gives values from 0 to 1.
    _standardize(vae.decoder.layers[-1], decoded / 2 + 0.5, mean=0.5, deviation=0.25)
    return vae


def _standardize(layer: Any, output: torch.Tensor, *, mean: float, deviation: float) -> None:  # noqa: ANN401
    """Give the output channels of a convolution another mean and standard deviation.

    Args:
        layer: The convolution.
        output: What it gives now, `[batch, channels, height, width]`.
        mean: Of each channel.
        deviation: Of each channel.
    """
    scale = deviation / output.std(dim=(0, 2, 3))
    _rescale(layer, scale, mean + scale * (layer.bias - output.mean(dim=(0, 2, 3))))


def _make_unet(config: dict[str, Any], generator: torch.Generator) -> UNet2DConditionModel:
    """Predictions of about unit variance."""
    with torch.device("meta"):
        unet = cast("UNet2DConditionModel", make_part("unet", config))
    _fill(unet.to_empty(device="cpu"), generator)
    _sharpen_cross_attention(unet)
    sample = torch.randn(1, config["in_channels"], 8, 8, generator=generator)
    context = torch.randn(1, 8, config["cross_attention_dim"], generator=generator)
    added = _added_conditions(config, generator)
    predicted = unet(sample, torch.tensor([500.0]), context, added_cond_kwargs=added).sample
    _rescale(unet.conv_out, 1 / predicted.std(), torch.zeros(config["out_channels"]))
    return unet


def _added_conditions(config: dict[str, Any], generator: torch.Generator) -> dict[str, torch.Tensor] | None:
    """A pooled prompt and sizes, for UNets that take them."""
    if config.get("addition_embed_type") is None:
        return None
    total, each = config["projection_class_embeddings_input_dim"], config["addition_time_embed_dim"]
    pooled = torch.randn(1, total - each, generator=generator)
    return {"text_embeds": pooled, "time_ids": torch.full((1, 1), 512.0)}


def _fill(module: nn.Module, generator: torch.Generator) -> None:
    """Draw all weights so that activations keep about unit variance."""
    for part in module.modules():
        for name, weight in part.named_parameters(recurse=False):
            _draw(part, name, weight, generator)


def _draw(part: nn.Module, name: str, weight: nn.Parameter, generator: torch.Generator) -> None:
    if weight.ndim < 2:
        is_gain = name == "weight"  # of a normalisation layer
        weight.normal_(1.0 if is_gain else 0.0, 0.1, generator=generator)
    elif isinstance(part, nn.Embedding):
        weight.normal_(generator=generator)
    else:
        weight.normal_(std=weight[0].numel() ** -0.5, generator=generator)


def _sharpen_cross_attention(unet: nn.Module) -> None:
    """Let single tokens count: with plain random weights, attention is all but the mean over the prompt.

    Where an attention has several blocks, as in SDXL, only its first is sharpened, and less: through 70 sharp
    blocks of random weights, the rounding to half precision grows to the size of the prediction.
    """
    weights = dict(unet.named_parameters())
    gain = 2 if any(".transformer_blocks.1." in name for name in weights) else 4
    for name, weight in weights.items():
        if (
            ".transformer_blocks.0.attn2.to_q" in name
            or ".transformer_blocks.0.attn2.to_out.0.weight" in name
        ):
            weight.mul_(gain)


def _rescale(layer: Any, scale: torch.Tensor, bias: torch.Tensor) -> None:  # noqa: ANN401
    """Multiply the output channels of a convolution by `scale`, and give them a new bias."""
    layer.weight.mul_(scale.reshape(-1, 1, 1, 1))
    layer.bias.copy_(bias)


def save_checkpoint(name: str, folder: Path, *, seed: int = 0) -> None:
    """Write a synthetic checkpoint as a folder that diffusers' pipelines load.

    Raises:
        SourceError: There is no synthetic checkpoint of that name.
    """
    source = SyntheticSource(name, seed)
    for part in source.parts:
        model: Any = source.load(part)
        model.save_pretrained(folder / part, safe_serialization=True)
        if part in TEXT_ENCODERS:
            _save_tokenizer(source, part, folder / part.replace("text_encoder", "tokenizer"))
    _write_json(folder / "scheduler" / "scheduler_config.json", source.scheduler_config())
    _write_json(folder / "model_index.json", _model_index(source))


def save_tiny_vae(name: str, folder: Path, *, seed: int = 0) -> None:
    """Write a synthetic tiny VAE as a folder that diffusers' `AutoencoderTiny` loads.

    Raises:
        SourceError: There is none of that name.
    """
    model: Any = SyntheticTinyVae(name, seed).load("tiny_vae")
    model.save_pretrained(folder, safe_serialization=True)


def _model_index(source: SyntheticSource) -> dict[str, Any]:
    unet = source.config("unet")
    xl = unet.get("addition_embed_type") is not None
    index: dict[str, Any] = {
        "_class_name": find_family(unet).pipeline_class(source),
        "_diffusers_version": diffusers.__version__,
        "feature_extractor": [None, None],
        "image_encoder": [None, None],
        "scheduler": ["diffusers", source.scheduler_config()["_class_name"]],
        **source.pipeline_config(),
    }
    if xl:
        index |= {"text_encoder": [None, None], "tokenizer": [None, None]}
    else:
        index |= {"requires_safety_checker": False, "safety_checker": [None, None]}
    for part in source.parts:
        library = "transformers" if part in TEXT_ENCODERS else "diffusers"
        index[part] = [library, part_class(part, source.config(part)).__name__]
        if part in TEXT_ENCODERS:
            index[part.replace("text_encoder", "tokenizer")] = ["transformers", "CLIPTokenizer"]
    return index


def _save_tokenizer(source: SyntheticSource, part: Part, folder: Path) -> None:
    vocabulary = source.vocabulary()
    tokenizer, pad_id = source.tokenizer(part)
    _write_json(folder / "vocab.json", vocabulary.ids)
    lines = ["#version: 0.2", *(f"{left} {right}" for left, right in vocabulary.merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    settings = {
        "bos_token": START_TOKEN,
        "eos_token": END_TOKEN,
        "model_max_length": source.config(part)["max_position_embeddings"],
        "pad_token": tokenizer.id_to_token(pad_id),
        "tokenizer_class": "CLIPTokenizer",
        "unk_token": END_TOKEN,
    }
    _write_json(folder / "tokenizer_config.json", settings)


def _write_json(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
