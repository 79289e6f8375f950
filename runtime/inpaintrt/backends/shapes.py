"""Shapes of tensors: what axis names mean, and which of the shapes that an engine is built for fits."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from math import prod

import numpy as np

from inpaintrt.backends.engine import Array
from inpaintrt.bundle import TensorSpec
from inpaintrt.errors import EngineInputError

__all__ = ["Shapes", "axis_sizes", "choose_profile", "pad", "resolve", "row_buckets"]

Shapes = Mapping[str, tuple[int, ...]]

# Axes along which nothing mixes what belongs to different requests: an engine may run more than it is given.
_PADDED_AXES = ("batch", "rows", "slots")
_FACTOR = re.compile(r"(?:(\d+)\*)?([A-Za-z_]\w*)(?:/(\d+))?")


def axis_sizes(specs: Mapping[str, TensorSpec], shapes: Shapes) -> dict[str, int]:
    """The size of every named axis of some tensors."""
    return {
        axis: size
        for name, shape in shapes.items()
        for axis, size in zip(specs[name].shape, shape, strict=True)
        if isinstance(axis, str)
    }


def resolve(spec: TensorSpec, sizes: Mapping[str, int]) -> tuple[int, ...]:
    """A tensor's shape for sizes of its axes, which it names as "height", "8*height" or "height/8"."""
    return tuple(axis if isinstance(axis, int) else _axis_size(axis, sizes) for axis in spec.shape)


def _axis_size(axis: str, sizes: Mapping[str, int]) -> int:
    match = _FACTOR.fullmatch(axis)
    if match is None or match[2] not in sizes:
        raise EngineInputError(
            "the size of an axis is not known", received=axis, expected=", ".join(sizes) or "no named axis"
        )
    return sizes[match[2]] * int(match[1] or 1) // int(match[3] or 1)


def choose_profile(profiles: Sequence[Shapes], specs: Mapping[str, TensorSpec], shapes: Shapes) -> int:
    """The number of the smallest profile that holds tensors of these shapes.

    Axes of requests and rows may be shorter than the profile's, since they are padded; the others are equal.

    Raises:
        EngineInputError: There is none; the message lists the sizes that there are.
    """
    fitting = [index for index, profile in enumerate(profiles) if _fits(profile, specs, shapes)]
    if not fitting:
        wanted = axis_sizes(specs, shapes)
        offered = [axis_sizes(specs, profile) for profile in profiles]
        differing = [axis for axis in wanted if {size[axis] for size in offered} != {wanted[axis]}]
        raise EngineInputError(
            "no plan was built for tensors of this size",
            received=_describe(wanted, differing),
            expected="; ".join(dict.fromkeys(_describe(size, differing) for size in offered)),
            hint="use one of these sizes, or add plans: `inpaintrt build` with --resolution, --max-batch or "
            "--prompt-windows",
        )
    return min(fitting, key=lambda index: sum(prod(shape) for shape in profiles[index].values()))


def _fits(profile: Shapes, specs: Mapping[str, TensorSpec], shapes: Shapes) -> bool:
    return all(
        size == built or (axis in _PADDED_AXES and size < built)
        for name, shape in shapes.items()
        for axis, size, built in zip(specs[name].shape, shape, profile[name], strict=True)
    )


def _describe(sizes: Mapping[str, int], axes: Sequence[str]) -> str:
    return ", ".join(f"{axis} {sizes[axis]}" for axis in axes)


def pad(array: Array, shape: tuple[int, ...]) -> Array:
    """The array, filled up with zeros at the end of its axes."""
    if array.shape == shape:
        return array
    padded = np.zeros(shape, array.dtype)
    padded[tuple(slice(size) for size in array.shape)] = array
    return padded


def row_buckets(max_rows: int) -> tuple[int, ...]:
    """Numbers of rows that steps are padded to: powers of two, and the largest number itself."""
    return (*(2**power for power in range(max_rows.bit_length()) if 2**power < max_rows), max_rows)
