"""Networks in forms that OpenVINO's CPU kernels run faster."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inpaintrt.backends.engine import Array
from inpaintrt.backends.openvino_library import openvino, opset13

__all__ = ["merge_upsampling", "rewrite_group_norms"]

_Node = Any  # the binding's classes of operations carry no types
# Where copies take a notable part of the time, beside convolutions and the compiler.
_MINIMUM_PIXELS, _MAXIMUM_CHANNELS = 32 * 32, 64
_NEAREST = {"mode": "nearest", "shape_calculation_mode": "scales", "nearest_mode": "floor"}
_NEAREST |= {"coordinate_transformation_mode": "asymmetric"}
_SAME_SIZE = {"strides": [1, 1], "dilations": [1, 1], "pads_begin": [1, 1], "pads_end": [1, 1]}


@dataclass(frozen=True)
class _GroupNorm:
    """A group normalization of an ONNX graph, after OpenVINO has read it.

    Attributes:
        source: What is normalized, `[batch, channels, ...]`.
        groups: The number of groups.
        epsilon: Added to the variance.
        scale: The learned scale `[channels, 1, ...]`.
        shift: The learned shift `[channels, 1, ...]`.
        last: The last operation.
    """

    source: openvino.Output
    groups: int
    epsilon: float
    scale: Array
    shift: Array
    last: _Node


def rewrite_group_norms(model: openvino.Model) -> int:
    """Let group normalizations of large images keep the layout of the convolutions around them.

    As exported, they work on `[batch, groups, rest]`: OpenVINO copies what the convolutions have left
    channels-last, and copies the result back. The mean and the variance of each channel need no other shape,
    and the rest is work on a few numbers (as in PyTorch's kernel).

    Args:
        model: A network with inputs of fixed shapes.

    Returns:
        How many were rewritten. Those of few pixels or many channels stay: they gain nothing, and each would
        take longer to compile.
    """
    found = [norm for node in model.get_ordered_ops() if (norm := _find_group_norm(node)) is not None]
    for norm in found:
        replacement = _by_channels(norm)
        replacement.set_friendly_name(norm.last.get_friendly_name())
        norm.last.output(0).replace(replacement.output(0))
    return len(found)


def _find_group_norm(node: _Node) -> _GroupNorm | None:
    """What normalizes groups around an MVN ("mean and variance normalization"), or None."""
    if node.get_type_name() != "MVN" or node.input_value(0).get_node().get_type_name() != "Reshape":
        return None
    chain = _follow(node, "Multiply", "Add", "Reshape", "Multiply", "Add")
    if chain is None:
        return None
    ones, zeros, _, scale, shift = map(_constant, chain)
    source = node.input_value(0).get_node().input_value(0)
    (batch, channels, *image), (rows, groups, *_) = source.get_shape(), node.get_output_shape(0)
    if prod(image) < _MINIMUM_PIXELS or channels > _MAXIMUM_CHANNELS:
        return None
    if ones is None or zeros is None or scale is None or shift is None:
        return None
    if (
        np.any(ones != 1)
        or np.any(zeros != 0)
        or (scale.size, shift.size, rows) != (channels, channels, batch)
    ):
        return None
    return _GroupNorm(source, groups, node.get_attributes()["eps"], scale, shift, chain[-1])


def _follow(node: _Node, *types: str) -> list[_Node] | None:
    """The operations of these types that use each other's result in turn, and nothing else does."""
    chain: list[_Node] = []
    for expected in types:
        users = [target.get_node() for target in node.output(0).get_target_inputs()]
        users = [user for user in users if user.get_type_name() != "ShapeOf"]
        if len(users) != 1 or users[0].get_type_name() != expected:
            return None
        node = users[0]
        chain.append(node)
    return chain


def _constant(node: _Node) -> Array | None:
    """The operand of an operation that is a constant, perhaps reshaped; None where there is none."""
    for value in node.input_values():
        operand = value.get_node()
        if operand.get_type_name() == "Reshape":
            operand = operand.input_value(0).get_node()
        if operand.get_type_name() == "Constant":
            return np.asarray(operand.get_data())
    return None


def _by_channels(norm: _GroupNorm) -> _Node:
    """Statistics of channels `[batch, channels, 1, ...]`, then of groups `[batch, groups, 1]`."""
    axes = list(range(2, len(norm.source.get_shape())))
    of_channels, of_groups = [0, -1, *(1 for _ in axes)], [0, norm.groups, -1]

    def group(values: _Node) -> _Node:
        return opset13.reshape(values, of_groups, special_zero=True)

    def mean_of_group(values: _Node) -> _Node:
        return opset13.reduce_mean(values, [2], keep_dims=True)

    mean = opset13.reduce_mean(norm.source, axes, keep_dims=True)
    distance = opset13.subtract(norm.source, mean)
    variance = opset13.reduce_mean(opset13.multiply(distance, distance), axes, keep_dims=True)
    group_mean = mean_of_group(group(mean))
    distance = opset13.subtract(group(mean), group_mean)
    group_variance = mean_of_group(opset13.add(group(variance), opset13.multiply(distance, distance)))
    deviation = opset13.sqrt(opset13.add(group_variance, np.float32(norm.epsilon)))
    slope = opset13.divide(norm.scale.reshape(1, norm.groups, -1), deviation)
    offset = opset13.subtract(norm.shift.reshape(1, norm.groups, -1), opset13.multiply(group_mean, slope))
    slope, offset = (opset13.reshape(values, of_channels, special_zero=True) for values in (slope, offset))
    return opset13.add(opset13.multiply(norm.source, slope), offset)


def merge_upsampling(model: openvino.Model) -> int:
    """Make one transposed convolution of doubling an image by nearest neighbours and a 3 x 3 convolution.

    Of the nine values under the convolution's window at most four are different pixels, so that four products
    do the work of nine. Only images that are exactly doubled are, such as a VAE's.

    Returns:
        How many were merged.
    """
    found = [pair for node in model.get_ordered_ops() if (pair := _find_upsampling(node)) is not None]
    for resize, convolution in found:
        weights = _merge_kernel(convolution.input_value(1).get_node().get_data())
        merged = opset13.convolution_backprop_data(
            resize.input_value(0), weights, strides=[2, 2], pads_begin=[1, 1], pads_end=[1, 1]
        )
        merged.set_friendly_name(convolution.get_friendly_name())
        convolution.output(0).replace(merged.output(0))
    return len(found)


def _find_upsampling(node: _Node) -> tuple[_Node, _Node] | None:
    if node.get_type_name() != "Interpolate":
        return None
    chain, factors = _follow(node, "Convolution"), node.input_value(1).get_node()
    if chain is None or not _has(node, _NEAREST) or factors.get_type_name() != "Constant":
        return None
    (convolution,) = chain
    weights = convolution.input_value(1).get_node()
    if not _has(convolution, _SAME_SIZE) or weights.get_type_name() != "Constant":
        return None
    fits = factors.get_data().tolist() == [1, 1, 2, 2] and weights.get_data().shape[2:] == (3, 3)
    return (node, convolution) if fits else None


def _has(node: _Node, attributes: Mapping[str, object]) -> bool:
    found = node.get_attributes()
    return all(found[name] == value for name, value in attributes.items())


def _merge_kernel(weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """`[out, in, 3, 3]` of a convolution to `[in, out, 4, 4]` of the transposed one.

    Along each axis, a pixel counts by the sum of those weights that fall on its two copies.
    """
    copies = np.array([[0, 0, 1], [0, 1, 1], [1, 1, 0], [1, 0, 0]], np.float64)
    merged = np.einsum("ik,jl,ockl->coij", copies, copies, weights.astype(np.float64), optimize=True)
    return np.ascontiguousarray(merged, np.float32)
