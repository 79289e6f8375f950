"""What a bundle's manifest holds."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from inpaintrt.bundle.precisions import Precision
from inpaintrt.bundle.quality import MeasuredQuality

__all__ = [
    "CACHED_FEATURE",
    "COMPONENT_NAMES",
    "FAMILIES",
    "FORMAT_VERSION",
    "SHALLOW_DENOISER",
    "TEXT_ENCODERS",
    "TINY_VAE",
    "VAE",
    "Activations",
    "Architecture",
    "AxisRange",
    "Build",
    "Checkpoint",
    "Dtype",
    "ExportCost",
    "FileEntry",
    "FusedLora",
    "Manifest",
    "Parity",
    "PredictionType",
    "TensorKind",
    "TensorSpec",
    "TinyVae",
    "TokenizerSettings",
]

FORMAT_VERSION = 2
TEXT_ENCODERS = ("text_encoder", "text_encoder_2")
VAE = ("vae_encoder", "vae_decoder")
TINY_VAE = ("tiny_vae_encoder", "tiny_vae_decoder")
"""The components of a second, faster VAE, which bundles may have."""

SHALLOW_DENOISER = "shallow_denoiser"
"""The component that takes `CACHED_FEATURE` in the place of the denoiser's deep layers, for step caching."""

CACHED_FEATURE = "cached_feature"
"""The tensor that a denoiser with step caching gives, and its shallow form takes."""

COMPONENT_NAMES = (*TEXT_ENCODERS, "vae_encoder", "denoiser", SHALLOW_DENOISER, "vae_decoder", *TINY_VAE)

FAMILIES = ("sd", "sdxl")

Dtype = Literal["float16", "float32", "int64"]
TensorKind = Literal["resident", "per_row", "per_step", "cached"]
PredictionType = Literal["epsilon", "v_prediction", "sample"]


class _Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A part of the manifest: immutable, and refusing what it does not know."""


class AxisRange(_Record, frozen=True):
    """The sizes that an axis may take, both ends included."""

    min: int
    max: int


class TensorSpec(_Record, frozen=True):
    """An input or output of an engine.

    Attributes:
        dtype: NumPy's name of the element type.
        shape: One entry an axis: a fixed size, or the name of an axis whose size varies.
        ranges: The range of each named axis; a name that is absent has no limit.
        kind: Of an input of a step graph, how long it is valid: "resident" (with an axis `slots`; written
            when a request joins), "per_row" (with an axis `rows`; the same in all steps of a request),
            "per_step", or "cached" (with an axis `rows`; from an earlier evaluation of the same row).
    """

    dtype: Dtype
    shape: tuple[int | str, ...]
    ranges: dict[str, AxisRange] = {}
    kind: TensorKind | None = None


class Parity(_Record, frozen=True):
    """How far a component is from PyTorch's fp32 result on fresh inputs of one shape.

    Attributes:
        case: What was compared, e.g. the shape of the inputs.
        max_absolute_error: The largest absolute difference of any value.
        relative_error: The norm of the difference over the norm of PyTorch's result.
    """

    case: str
    max_absolute_error: float
    relative_error: float


class Activations(_Record, frozen=True):
    """Memory that a run takes for what it computes, as measured on ONNX Runtime's CPU provider.

    A run of n rows (of n images in the VAE) of p latent pixels each takes about
    `n * (p * per_position + p**2 * per_pair)` bytes beside the weights.

    Attributes:
        per_position: Bytes for each latent pixel.
        per_pair: Bytes for each pair of latent pixels: attention whose matrices are formed.
    """

    per_position: float
    per_pair: float

    def total(self, count: int, positions: int) -> float:
        """Bytes of a run of so many rows or images of so many latent pixels each."""
        return count * (positions * self.per_position + positions**2 * self.per_pair)


class FusedLora(_Record, frozen=True):
    """A LoRA that changed weights before they were exported or compiled.

    Attributes:
        name: The file's name.
        sha256: SHA-256 of its content.
        scale: The scale that it was applied with.
    """

    name: str
    sha256: str
    scale: float

    @property
    def text(self) -> str:
        """File and scale as the command line takes them."""
        return f"{self.name}:{self.scale:g}"


class Build(_Record, frozen=True, omit_defaults=True):
    """One realisation of a component: the network as exported, or what was made of it for a backend.

    Attributes:
        component: One of `COMPONENT_NAMES`.
        precision: What the network computes in.
        inputs: Inputs by name.
        outputs: Outputs by name.
        files: Paths relative to the bundle: first the file that is opened, then those of weights that
            belong to this build alone. Empty for a conversion to another precision that was only checked.
        form: For the denoiser and its shallow form, "step" (UNet, guidance and sampler update in one graph)
            or "unet" (the plain UNet); None for the other components.
        backend: The backend that it was made for; None for an ONNX network that is bound to no backend.
        network_sha256: `network_digest` of the exported network that it was made of; None for that itself.
        revision: Revision of what made an ONNX network of the exported one; of a plan, of the conversion to
            another precision that came first. 0 where nothing was changed.
        accepted: False for a conversion whose results are too far from those of the exported network.
        parity: How far the results are from PyTorch's; of a build that was made of the exported network, from
            that network's. Empty where nothing was compared, or where results were not finite.
        activations: Memory of a run; None where it was not measured.
        fused: For each kind of fused node, how many there are.
        library: Of a plan: version of the library that built it, which must be the one that runs it.
        targets: Of a plan: compute capabilities such as "sm89"; empty for a portable one (TensorRT-RTX only).
        profiles: Of a plan: the shapes that it runs at; for each profile, the shape of every input.
        key: Of a plan: digest of all that decides its content; plans of one key are interchangeable.
        loras: Of a plan: what changed the network's weights, in the order in which it was applied.
        weights: Of an exported network whose weights can be changed: for each parameter by the checkpoint's
            name, e.g. `mid_block.attentions.0.proj_in.weight`, the initializer that holds it; empty for a
            parameter that the outputs do not depend on. Those of CLIP begin with `text_model.`, but for
            `text_projection`.
        transposed: Those of `weights` whose initializer holds the transposed matrix.
    """

    component: str
    precision: Precision
    inputs: dict[str, TensorSpec]
    outputs: dict[str, TensorSpec]
    files: tuple[str, ...] = ()
    form: Literal["step", "unet"] | None = None
    backend: str | None = None
    network_sha256: str | None = None
    revision: int = 0
    accepted: bool = True
    parity: tuple[Parity, ...] = ()
    activations: Activations | None = None
    fused: dict[str, int] = {}
    library: str = ""
    targets: tuple[str, ...] = ()
    profiles: tuple[dict[str, tuple[int, ...]], ...] = ()
    key: str = ""
    loras: tuple[FusedLora, ...] = ()
    weights: dict[str, str] = {}
    transposed: tuple[str, ...] = ()

    @property
    def file(self) -> str:
        """The file that is opened."""
        return self.files[0]


class ExportCost(_Record, frozen=True):
    """What exporting a part of the checkpoint took, on the machine that did it.

    Attributes:
        seconds: Time of loading, tracing and comparing.
        peak_bytes: The largest resident memory of the process up to the end of that; None where the system
            does not tell (it is not Linux).
    """

    seconds: float
    peak_bytes: int | None = None


class FileEntry(_Record, frozen=True):
    """A file of the bundle, with its size in bytes and the SHA-256 of its content."""

    path: str
    size: int
    sha256: str


class Checkpoint(_Record, frozen=True):
    """Where the weights come from.

    Attributes:
        id: The source as the user named it.
        revision: The commit of a Hub repository.
        sha256: Digest over the weights' files, in the order of their names.
        loras: What changed the weights before the export, in the order in which it was applied.
    """

    id: str
    revision: str | None = None
    sha256: str | None = None
    loras: tuple[FusedLora, ...] = ()


class Architecture(_Record, frozen=True):
    """What the runtime must know of the networks.

    Attributes:
        latent_channels: Channels of a latent image.
        vae_scale_factor: Pixels of one latent pixel along each side.
        latent_scale: The VAE's scaling factor: latents are multiplied by it after encoding.
        context_width: Width of one token's embedding.
        prediction_type: What the UNet predicts, in diffusers' words.
        native_resolution: Height and width in pixels that the checkpoint was trained for.
        text_layers: Layers of the text encoder, or of the smaller one of two, which limit clip_skip; None
            where it gives its last one only.
        condition_channels: Channels that the UNet takes beside the latents: those of an inpainting
            checkpoint's mask and masked image, 0 for a text-to-image checkpoint.
        guidance_embedding_width: Width of the embedding of the guidance scale that the UNet takes (diffusers'
            `time_cond_proj_dim`, of LCM checkpoints); None where it takes none.
        pooled_width: Width of the embedding of a prompt as a whole, which SDXL's UNet takes; None for others.
        size_ids: How many numbers tell SDXL's UNet of sizes: 6, or 5 for refiners, which take an aesthetic
            score in the place of the target size; 0 for others.
        zeros_for_absent_negative: Whether an absent negative prompt is all zeros, not the embeddings of the
            empty prompt (diffusers' `force_zeros_for_empty_prompt`).
    """

    latent_channels: int
    vae_scale_factor: int
    latent_scale: float
    context_width: int
    prediction_type: PredictionType
    native_resolution: tuple[int, int]
    text_layers: int | None = None
    condition_channels: int = 0
    guidance_embedding_width: int | None = None
    pooled_width: int | None = None
    size_ids: int = 0
    zeros_for_absent_negative: bool = False


class TinyVae(_Record, frozen=True):
    """A second VAE for the latents of the first: smaller and faster, and less exact (`AutoencoderTiny`).

    Attributes:
        checkpoint: Where its weights come from.
        latent_scale: Its scaling factor: latents are multiplied by it after encoding.
    """

    checkpoint: Checkpoint
    latent_scale: float


class TokenizerSettings(_Record, frozen=True):
    """The tokenizer's file and the numbers that surround it.

    Attributes:
        file: Path of `tokenizer.json`, relative to the bundle.
        max_length: Tokens of one window, first and last token included.
        start_token: Id of the token before a prompt.
        end_token: Id of the token after a prompt.
        pad_token: Id of the token that fills a window.
    """

    file: str
    max_length: int
    start_token: int
    end_token: int
    pad_token: int


class Manifest(_Record, frozen=True, omit_defaults=True):
    """The content of `bundle.json`.

    Attributes:
        format_version: Version of this layout.
        family: The family of checkpoints, one of `FAMILIES`.
        name: The bundle's name in the engine store.
        producer: Who wrote the bundle: library names and versions.
        checkpoint: Where the weights come from.
        architecture: What the runtime must know of the networks.
        scheduler: The checkpoint's `scheduler_config.json`.
        tokenizers: The tokenizer of each text encoder, by the name of the component, one of `TEXT_ENCODERS`.
        builds: The exported network of each component, and what was made of these networks for backends, in
            the order in which it was made. Of `COMPONENT_NAMES`, only text encoders without a tokenizer are
            missing, `SHALLOW_DENOISER` where the bundle has no step caching, and `TINY_VAE` where there is
            none.
        files: Every file but the manifest.
        tiny_vae: What the runtime must know of the components `TINY_VAE`; None where there are none.
        export_costs: What exporting each part of the checkpoint took, such as "unet", in the order in which
            they were exported; empty for ONNX files that others exported.
        quality: The settings that `quality` "balanced" and "fast" stand for, chosen from measurements; a word
            that is missing stands for documented settings.
    """

    format_version: int
    family: str
    name: str
    producer: dict[str, str]
    checkpoint: Checkpoint
    architecture: Architecture
    scheduler: dict[str, Any]
    tokenizers: dict[str, TokenizerSettings]
    builds: tuple[Build, ...]
    files: tuple[FileEntry, ...]
    tiny_vae: TinyVae | None = None
    export_costs: dict[str, ExportCost] = {}
    quality: dict[Literal["balanced", "fast"], MeasuredQuality] = {}

    @property
    def exported(self) -> dict[str, Build]:
        """The exported network of every component, by the component's name."""
        return {build.component: build for build in self.builds if build.network_sha256 is None}

    @property
    def window(self) -> int:
        """Tokens of one window of a prompt, the same for all text encoders."""
        return min(settings.max_length for settings in self.tokenizers.values())

    @property
    def precision(self) -> Precision:
        """What the bundle was exported in: that of its denoiser. The VAE may have had to stay in float32."""
        return self.exported["denoiser"].precision
