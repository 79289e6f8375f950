"""From a part of a checkpoint to components of the bundle: load, trace, compose, compare."""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
import torch

from inpaintrt.bundle import Build, number_format
from inpaintrt_export.families.sd import vae_factor
from inpaintrt_export.graphs.files import find_files
from inpaintrt_export.networks import (
    Network,
    step_network,
    text_encoder_network,
    unet_network,
    vae_decoder_network,
    vae_encoder_network,
)
from inpaintrt_export.parity import compare, evaluate
from inpaintrt_export.precision.vae import choose_vae_precision
from inpaintrt_export.step_graph import compose_step_file
from inpaintrt_export.tracing import trace

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

    from inpaintrt.bundle import Precision
    from inpaintrt_export.networks import Sizes
    from inpaintrt_export.parity import Reference
    from inpaintrt_export.sources.checkpoint import CheckpointSource, Part

__all__ = ["STAGES", "export_part"]

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
        composed: The traced graph is the plain UNet, around which the step is composed.
    """

    make: NetworkMaker
    cases: tuple[Sizes, ...]
    in_pixels: bool = False
    composed: bool = False


_VAE_CASES: tuple[Sizes, ...] = (
    {"batch": 1, "height": 9, "width": 7},
    {"batch": 1, "height": 8, "width": 8},
    {"batch": 3, "height": 5, "width": 13},
)
_RECIPES: dict[Part, dict[str, _ExportRecipe]] = {
    "text_encoder": {
        "text_encoder": _ExportRecipe(
            make=text_encoder_network,
            cases=({"batch": 1, "tokens": 77}, {"batch": 3, "tokens": 77}, {"batch": 2, "tokens": 11}),
        ),
    },
    "vae": {
        "vae_encoder": _ExportRecipe(make=vae_encoder_network, cases=_VAE_CASES, in_pixels=True),
        "vae_decoder": _ExportRecipe(make=vae_decoder_network, cases=_VAE_CASES),
    },
    "unet": {
        "denoiser": _ExportRecipe(
            make=step_network,
            cases=(
                {"slots": 1, "rows": 2, "tokens": 77, "height": 9, "width": 7},
                {"slots": 1, "rows": 1, "tokens": 77, "height": 8, "width": 8},
                {"slots": 3, "rows": 5, "tokens": 77, "height": 7, "width": 13},
                {"slots": 2, "rows": 4, "tokens": 154, "height": 12, "width": 10},
            ),
            composed=True,
        ),
    },
}


def _stages() -> tuple[str, ...]:
    stages = []
    for part, recipes in _RECIPES.items():
        stages += [f"{part}: loading", f"{part}: evaluating in PyTorch"]
        stages += [f"{name}: tracing" for name in recipes]
        stages += [f"{name}: comparing" for name in recipes]
    return tuple(stages)


STAGES = _stages()
"""What is reported while the parts are exported, in order."""


def export_part(
    part: Part, source: CheckpointSource, folder: Path, precision: Precision, report: StageReport
) -> dict[str, Build]:
    """Write the components that are made of one part; the part's weights are in memory only meanwhile.

    Args:
        part: Which part.
        source: The checkpoint.
        folder: The bundle.
        precision: What the networks shall compute in.
        report: Called with the name of every stage.

    Raises:
        SourceError: The part is missing or mis-shaped.
        ParityError: A graph does not compute what PyTorch computes.
    """
    written = _write_graphs(part, source, folder, precision, report)
    gc.collect()
    builds = {}
    for name, graph in written.items():
        report(f"{name}: comparing")
        parity = compare(folder / graph.build.file, graph.references, graph.build.precision)
        builds[name] = msgspec.structs.replace(graph.build, parity=parity)
    return builds


@dataclass(frozen=True)
class _Written:
    """A component whose graph is on the disk, and what PyTorch says it should compute."""

    build: Build
    references: list[Reference]


def _write_graphs(
    part: Part, source: CheckpointSource, folder: Path, precision: Precision, report: StageReport
) -> dict[str, _Written]:
    recipes = _RECIPES[part]
    report(f"{part}: loading")
    model = source.load(part)
    report(f"{part}: evaluating in PyTorch")
    references = {
        name: evaluate(recipe.make(model, torch.float32), _cases(recipe, model))
        for name, recipe in recipes.items()
    }
    chosen = choose_vae_precision(model, precision) if part == "vae" else precision
    written = {}
    for name, recipe in recipes.items():
        report(f"{name}: tracing")
        build = _write_graph(name, recipe, model, folder, chosen)
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
    if recipe.composed:
        plain = unet_network(model, dtype)
        trace(plain, folder / file)
        compose_step_file(folder / file, network.inputs)
    else:
        trace(network, folder / file)
    return Build(
        component=name,
        precision=precision,
        inputs=dict(network.inputs),
        outputs=dict(network.outputs),
        files=find_files(folder, file),
        form="step" if recipe.composed else None,
    )
