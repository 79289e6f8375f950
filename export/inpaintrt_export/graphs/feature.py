"""The denoiser's graph cut in two where DeepCache cuts it (Ma et al., arXiv:2312.00858).

A UNet's last upsampling layers join two tensors: what the deep layers below have made, and what the first
layers have skipped to them. The former is the cached feature: it changes slowly from step to step, so that an
evaluation may take that of an earlier one, and compute the first and the last layers alone.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from inpaintrt.bundle import CACHED_FEATURE
from inpaintrt.errors import ExportError, ParameterError
from inpaintrt_export.step_graph import UNET_PREFIX

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Feature", "find_feature", "give_feature", "take_feature"]

_JOINING: Final = re.compile(r"up_blocks\.(\d+)\.resnets\.(\d+)\.conv_shortcut\.weight")
"""The parameter of a layer that is given both tensors, joined."""
_FIRST: Final = "conv_in.weight"
_DEEPEST: Final = "mid_block."


class Feature(NamedTuple):
    """Where a denoiser is cut.

    Attributes:
        value: The tensor `[rows, channels, h, w]` in its graph.
        channels: Its channels.
        dtype: Its element type.
    """

    value: ir.Value
    channels: int
    dtype: ir.DataType


def find_feature(graph: ir.Graph, weights: Mapping[str, str], branch: int) -> Feature:
    """Find the cached feature in a denoiser's graph, by the weights of the layer that takes it.

    Args:
        graph: The graph.
        weights: Initializers by the checkpoint's names of parameters, as `Build.weights` has them.
        branch: DeepCache's `cache_branch_id`: how many layers of the last block run besides the last one.

    Raises:
        ParameterError: The last block has fewer layers.
        ExportError: The layer, or what joins its inputs, is not in the graph.
    """
    layer = _find_layer(weights, branch)
    parameter = f"{layer}.conv_shortcut.weight"
    weight, first = (_initializer(graph, weights, name) for name in (parameter, _FIRST))
    (convolution, *others) = (use.node for use in weight.uses())
    joined = convolution.inputs[0]
    join = None if others or joined is None else joined.producer()
    if join is None or join.op_type != "Concat" or len(join.inputs) != 2:
        raise _no_place(
            f"no Concat of two tensors before {parameter}",
            "the deep layers' output joined with what was skipped",
        )
    value = join.inputs[0]
    if value is None or value.producer() is None or weight.shape is None or first.shape is None:
        raise _no_place(f"no tensor for {layer}", "the output of deeper layers")
    return Feature(value, int(weight.shape[1]) - int(first.shape[0]), weight.dtype or ir.DataType.FLOAT)


def _find_layer(weights: Mapping[str, str], branch: int) -> str:
    found = [(int(match[1]), int(match[2])) for name in weights if (match := _JOINING.fullmatch(name))]
    if not found:
        raise _no_place("no up_blocks.N.resnets.M.conv_shortcut.weight", "the parameters of a diffusers UNet")
    block = max(block for block, _ in found)
    layers = sorted(layer for other, layer in found if other == block)
    if not 0 <= branch < len(layers):
        raise ParameterError(
            "the denoiser's last block has no such layer",
            received=branch,
            expected=f"0 to {len(layers) - 1}",
            hint="0 computes the last layer alone in a shallow evaluation, and each number one layer more",
            parameter="cache_branch_id",
        )
    return f"up_blocks.{block}.resnets.{layers[-1 - branch]}"


def _initializer(graph: ir.Graph, weights: Mapping[str, str], parameter: str) -> ir.Value:
    value = graph.initializers.get(weights.get(parameter, ""))
    if value is None or not value.uses():
        raise _no_place(f"no {parameter}", "the parameters of a diffusers UNet")
    return value


def _no_place(received: str, expected: str) -> ExportError:
    return ExportError(
        "the denoiser's graph cannot be cut for step caching",
        received=received,
        expected=expected,
        hint="export the checkpoint again with `inpaintrt export --step-cache`",
    )


def give_feature(graph: ir.Graph, feature: Feature) -> None:
    """Make the cached feature an output of a denoiser's graph, in place, instead of an earlier one."""
    _drop_feature(graph)
    feature.value.name = CACHED_FEATURE
    feature.value.shape, feature.value.type = _shape(feature), ir.TensorType(feature.dtype)
    graph.outputs.append(feature.value)


def take_feature(model: ir.Model, feature: Feature, weights: Mapping[str, str]) -> None:
    """Make the cached feature an input of a denoiser's graph, in place, and drop what it replaces.

    Args:
        model: The denoiser.
        feature: From `find_feature` of its graph.
        weights: As `find_feature` takes them.

    Raises:
        ExportError: The deepest layers are still needed.
    """
    graph = model.graph
    _drop_feature(graph)
    given = ir.val(CACHED_FEATURE, feature.dtype, _shape(feature))
    ir.convenience.replace_all_uses_with(feature.value, given)
    graph.inputs.append(given)
    RemoveUnusedNodesPass()(model)
    for unused in [value for value in graph.inputs if not value.uses()]:
        graph.inputs.remove(unused)
    deep = [
        name for name, place in weights.items() if name.startswith(_DEEPEST) and place in graph.initializers
    ]
    if deep:
        raise _no_place(f"a shallow graph that still needs {deep[0]}", "one without the deepest layers")


def _drop_feature(graph: ir.Graph) -> None:
    """Give no cached feature any more, where the graph was cut before."""
    for output in [output for output in graph.outputs if output.name == CACHED_FEATURE]:
        graph.outputs.remove(output)
        output.name = f"{UNET_PREFIX}{CACHED_FEATURE}"


def _shape(feature: Feature) -> ir.Shape:
    return ir.Shape(["rows", feature.channels, "height", "width"])
