"""What a bundle's manifest holds."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

__all__ = [
    "COMPONENT_NAMES",
    "FORMAT_VERSION",
    "Activations",
    "Architecture",
    "AxisRange",
    "Checkpoint",
    "Component",
    "Conversion",
    "Dtype",
    "FileEntry",
    "Manifest",
    "Parity",
    "Plan",
    "PlanBackend",
    "Precision",
    "TensorKind",
    "TensorSpec",
    "TokenizerSettings",
    "Variant",
    "VariantBackend",
]

FORMAT_VERSION = 1
COMPONENT_NAMES = ("text_encoder", "vae_encoder", "denoiser", "vae_decoder")

Dtype = Literal["float16", "float32", "int64"]
PlanBackend = Literal["tensorrt", "tensorrt-rtx"]
VariantBackend = Literal["onnxruntime", "onnxruntime-cuda"]
Precision = Literal["fp16", "fp32"]
TensorKind = Literal["resident", "per_row", "per_step"]
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
            when a request joins), "per_row" (with an axis `rows`; the same in all steps of a request) or
            "per_step".
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


class Component(_Record, frozen=True):
    """One network of the bundle.

    Attributes:
        file: Path of the ONNX file, relative to the bundle.
        precision: What the network computes in.
        inputs: Inputs by name.
        outputs: Outputs by name.
        form: For the denoiser, "step" (UNet, guidance and sampler update in one graph) or "unet"
            (the plain UNet); None for the other components.
        parity: The comparison with PyTorch made at export; empty where there was no PyTorch model. Of a
            variant: the comparison with the network that it was made of.
        activations: Memory of a run; None where it was not measured.
    """

    file: str
    precision: Precision
    inputs: dict[str, TensorSpec]
    outputs: dict[str, TensorSpec]
    form: Literal["step", "unet"] | None = None
    parity: tuple[Parity, ...] = ()
    activations: Activations | None = None


class Plan(_Record, frozen=True):
    """A network of the bundle, compiled for GPUs by TensorRT or TensorRT-RTX.

    Attributes:
        component: The network's name in the bundle.
        backend: The library that the plan was built with and runs on.
        library: That library's version, which must be the one that runs the plan.
        precision: What the network computes in.
        targets: Compute capabilities such as "sm89"; empty for a portable plan (TensorRT-RTX only).
        profiles: The shapes that the plan runs at: for each profile, the shape of every input.
        inputs: Inputs by name, as the network that was compiled has them.
        outputs: Outputs by name.
        network_sha256: `network_digest` of the bundle's network that was compiled, or converted and compiled.
        conversion: Revision of the conversion to half precision that came before; 0 where there was none.
        key: Digest of all that decides the plan's content; builds of one key are interchangeable.
        file: Path of the plan, relative to the bundle.
    """

    component: str
    backend: PlanBackend
    library: str
    precision: Precision
    targets: tuple[str, ...]
    profiles: tuple[dict[str, tuple[int, ...]], ...]
    inputs: dict[str, TensorSpec]
    outputs: dict[str, TensorSpec]
    network_sha256: str
    key: str
    file: str
    conversion: int = 0


class Conversion(_Record, frozen=True):
    """What became of a network of a float32 bundle when it was converted to half precision.

    Attributes:
        component: The network's name in the bundle.
        precision: What it computes in where half precision is asked for: "fp32" if half precision would
            spoil its results.
        network_sha256: `network_digest` of the network.
        revision: Revision of the conversion.
        parity: How far the converted network is from the bundle's own.
    """

    component: str
    precision: Precision
    network_sha256: str
    revision: int
    parity: tuple[Parity, ...]


class Variant(_Record, frozen=True):
    """A network of the bundle in the form that suits a backend best.

    Attributes:
        component: The network's name in the bundle.
        backend: The backend that takes it instead of the bundle's own network.
        network: The variant. Its external weights may be those of the bundle's own network.
        network_sha256: `network_digest` of the bundle's own network, of which it was made.
        revision: Revision of the conversion that made it.
        fused: How many nodes of each kind stand for several of the bundle's own network.
    """

    component: str
    backend: VariantBackend
    network: Component
    network_sha256: str
    revision: int
    fused: dict[str, int]


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
    """

    id: str
    revision: str | None = None
    sha256: str | None = None


class Architecture(_Record, frozen=True):
    """What the runtime must know of the networks.

    Attributes:
        latent_channels: Channels of a latent picture.
        vae_scale_factor: Pixels of one latent pixel along each side.
        latent_scale: The VAE's scaling factor: latents are multiplied by it after encoding.
        context_width: Width of one token's embedding.
        prediction_type: What the UNet predicts, in diffusers' words.
        native_resolution: Height and width in pixels that the checkpoint was trained for.
        text_layers: Layers of the text encoder, which limit clip_skip; None where it gives its last one only.
        condition_channels: Channels that the UNet takes beside the latents: those of an inpainting
            checkpoint's mask and masked image, 0 for a text-to-image checkpoint.
        guidance_embedding_width: Width of the embedding of the guidance scale that the UNet takes (diffusers'
            `time_cond_proj_dim`, of LCM checkpoints); None where it takes none.
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


class Manifest(_Record, frozen=True):
    """The content of `bundle.json`.

    Attributes:
        format_version: Version of this layout.
        name: The bundle's name in the engine store.
        producer: Who wrote the bundle: library names and versions.
        checkpoint: Where the weights come from.
        architecture: What the runtime must know of the networks.
        scheduler: The checkpoint's `scheduler_config.json`.
        tokenizer: The tokenizer's file and numbers.
        components: "text_encoder", "vae_encoder", "denoiser" and "vae_decoder".
        files: Every file but the manifest.
        plans: The components as compiled for GPUs.
        conversions: The components of a float32 bundle as converted to half precision.
        variants: The components in the forms that backends run fastest.
    """

    format_version: int
    name: str
    producer: dict[str, str]
    checkpoint: Checkpoint
    architecture: Architecture
    scheduler: dict[str, Any]
    tokenizer: TokenizerSettings
    components: dict[str, Component]
    files: tuple[FileEntry, ...]
    plans: tuple[Plan, ...] = ()
    conversions: tuple[Conversion, ...] = ()
    variants: tuple[Variant, ...] = ()
