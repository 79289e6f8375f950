"""From a part of a checkpoint to components of the bundle: load, trace, compose, compare."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import torch

from inpaintrt.bundle import TINY_VAE, Build, number_format
from inpaintrt.families import FAMILIES, step_specs
from inpaintrt_export.families.parts import vae_factor
from inpaintrt_export.graphs.files import find_files
from inpaintrt_export.networks import (
    Network,
    dtype_name,
    step_network,
    text_encoder_network,
    unet_network,
    vae_decoder_network,
    vae_encoder_network,
)
from inpaintrt_export.parity import compare, evaluate
from inpaintrt_export.precision.vae import choose_vae_precision
from inpaintrt_export.step_graph import UNET_PREFIX, compose_step_file
from inpaintrt_export.tracing import trace
from inpaintrt_export.weights import name_weights

if TYPE_CHECKING:
    from torch import nn

    from inpaintrt.bundle import Architecture, Precision, TensorSpec
    from inpaintrt_export.families import Family
    from inpaintrt_export.networks import Sizes
    from inpaintrt_export.parity import Reference
    from inpaintrt_export.sources.checkpoint import Part, PartSource

__all__ = ["ExportedCheckpoint", "export_part", "stages"]

StageReport = Callable[[str], None]
NetworkMaker = Callable[[Any, torch.dtype], Network]

_MANY_WEIGHTS = 100_000_000
"""From this many weights on, only the first case is compared: the others would take minutes."""


@dataclass(frozen=True)
class _ExportRecipe:
    """How a component is made of a part of the checkpoint.

    Attributes:
        make: The component as a PyTorch module.
        cases: Sizes at which it is compared with PyTorch, the smallest first, in latent pixels; odd and even.
        in_pixels: Its height and width are those of an image, `vae_factor` times as large.
        plain: Of the denoiser: the traced graph is this plain UNet, around which the step is composed.
    """

    make: NetworkMaker
    cases: tuple[Sizes, ...]
    in_pixels: bool = False
    plain: NetworkMaker | None = None


_TEXT_CASES: tuple[Sizes, ...] = (
    {"batch": 1, "tokens": 77},
    {"batch": 3, "tokens": 77},
    {"batch": 2, "tokens": 11},
)
_VAE_CASES: tuple[Sizes, ...] = (
    {"batch": 1, "height": 9, "width": 7},
    {"batch": 1, "height": 8, "width": 8},
    {"batch": 3, "height": 5, "width": 13},
)
_STEP_CASES: tuple[Sizes, ...] = (
    {"slots": 1, "rows": 2, "tokens": 77, "height": 9, "width": 7},
    {"slots": 1, "rows": 1, "tokens": 77, "height": 8, "width": 8},
    {"slots": 3, "rows": 5, "tokens": 77, "height": 7, "width": 13},
    {"slots": 2, "rows": 4, "tokens": 154, "height": 12, "width": 10},
)
_COMPONENTS: dict[Part, tuple[str, ...]] = {
    "text_encoder": ("text_encoder",),
    "text_encoder_2": ("text_encoder_2",),
    "vae": ("vae_encoder", "vae_decoder"),
    "tiny_vae": TINY_VAE,
    "unet": ("denoiser",),
}
"""The components that are made of each part."""


def _recipe(component: str, family: Family, architecture: Architecture) -> _ExportRecipe:
    def specs(dtype: torch.dtype) -> Mapping[str, TensorSpec]:
        return step_specs(FAMILIES[family.name], architecture, dtype_name(dtype))

    match component:
        case "vae_encoder" | "tiny_vae_encoder":
            return _ExportRecipe(vae_encoder_network, _VAE_CASES, in_pixels=True)
        case "vae_decoder" | "tiny_vae_decoder":
            return _ExportRecipe(vae_decoder_network, _VAE_CASES)
        case "denoiser":
            return _ExportRecipe(
                lambda unet, dtype: step_network(unet, dtype, specs(dtype)),
                _STEP_CASES,
                plain=lambda unet, dtype: unet_network(unet, dtype, specs(dtype)),
            )
        case _:
            return _ExportRecipe(
                lambda encoder, dtype: text_encoder_network(encoder, dtype, family), _TEXT_CASES
            )


def stages(parts: Sequence[Part]) -> tuple[str, ...]:
    """What is reported while the parts are exported, in order."""
    reported = []
    for part in parts:
        reported += [f"{part}: loading", f"{part}: evaluating in PyTorch"]
        reported += [f"{name}: tracing" for name in _COMPONENTS[part]]
        reported += [f"{name}: comparing" for name in _COMPONENTS[part]]
    return tuple(reported)


@dataclass(frozen=True)
class ExportedCheckpoint:
    """A checkpoint that is being exported.

    Attributes:
        source: Has its parts.
        family: Its family.
        architecture: What its configurations say.
        folder: The bundle.
        precision: What the networks shall compute in.
    """

    source: PartSource
    family: Family
    architecture: Architecture
    folder: Path
    precision: Precision


def export_part(part: Part, checkpoint: ExportedCheckpoint, report: StageReport) -> dict[str, Build]:
    """Write the components that are made of one part; the part's weights are in memory only meanwhile.

    Args:
        part: Which part.
        checkpoint: The checkpoint, and where the bundle lies.
        report: Called with the name of every stage.

    Raises:
        SourceError: The part is missing or mis-shaped.
        ParityError: A graph does not compute what PyTorch computes.
    """
    written = _write_graphs(part, checkpoint, report)
    gc.collect()
    builds = {}
    for name, graph in written.items():
        report(f"{name}: comparing")
        parity = compare(checkpoint.folder / graph.build.file, graph.references, graph.build.precision)
        builds[name] = msgspec.structs.replace(graph.build, parity=parity)
    return builds


@dataclass(frozen=True)
class _Written:
    """A component whose graph is on the disk, and what PyTorch says it should compute."""

    build: Build
    references: list[Reference]


def _write_graphs(part: Part, checkpoint: ExportedCheckpoint, report: StageReport) -> dict[str, _Written]:
    recipes = {name: _recipe(name, checkpoint.family, checkpoint.architecture) for name in _COMPONENTS[part]}
    report(f"{part}: loading")
    model = checkpoint.source.load(part)
    report(f"{part}: evaluating in PyTorch")
    references = {
        name: evaluate(recipe.make(model, torch.float32), _cases(recipe, model))
        for name, recipe in recipes.items()
    }
    precision = checkpoint.precision
    chosen = choose_vae_precision(model, precision) if part in ("vae", "tiny_vae") else precision
    written = {}
    for name, recipe in recipes.items():
        report(f"{name}: tracing")
        build = _write_graph(name, recipe, model, checkpoint.folder, chosen)
        written[name] = _Written(build=build, references=references[name])
    _release(model)
    return written


def _release(model: nn.Module) -> None:
    """Free the weights, which would outlive the model: onnxscript's rewriting rules keep the last graph."""
    for weight in model.parameters():
        storage = weight.untyped_storage()
        if storage.resizable():  # what is mapped from a file takes no memory of its own
            storage.resize_(0)


def _cases(recipe: _ExportRecipe, model: Any) -> tuple[Sizes, ...]:  # noqa: ANN401
    weights = sum(weight.numel() for weight in model.parameters())
    cases = recipe.cases if weights < _MANY_WEIGHTS else recipe.cases[:1]
    if not recipe.in_pixels:
        return cases
    scales = dict.fromkeys(("height", "width"), vae_factor(model.config))
    return tuple({axis: size * scales.get(axis, 1) for axis, size in case.items()} for case in cases)


def _write_graph(name: str, recipe: _ExportRecipe, model: Any, folder: Path, precision: Precision) -> Build:  # noqa: ANN401
    dtype = getattr(torch, number_format(precision).dtype)
    file = f"{name}/model.onnx"
    network = recipe.make(model, dtype)
    if recipe.plain is not None:
        places = trace(recipe.plain(model, dtype), folder / file)
        compose_step_file(folder / file, network.inputs)
    else:
        places = trace(network, folder / file)
    return Build(
        component=name,
        precision=precision,
        inputs=dict(network.inputs),
        outputs=dict(network.outputs),
        files=find_files(folder, file),
        form=None if recipe.plain is None else "step",
        **name_weights(name, places, "" if recipe.plain is None else UNET_PREFIX),
    )
