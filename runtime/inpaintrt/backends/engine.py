"""What an engine is, and the one check of what goes into it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from inpaintrt.bundle import Activations, Build, TensorSpec
from inpaintrt.errors import EngineInputError, EngineUnavailableError

__all__ = [
    "Array",
    "Clock",
    "Engine",
    "KeepsState",
    "RowKey",
    "StepState",
    "UsesHostMemory",
    "check_inputs",
    "check_names",
]

Array = NDArray[Any]


class Engine(Protocol):
    """A network that is ready to run. Several threads may call `run` at the same time."""

    @property
    def inputs(self) -> Mapping[str, TensorSpec]:
        """Inputs by name."""
        ...

    @property
    def outputs(self) -> Mapping[str, TensorSpec]:
        """Outputs by name."""
        ...

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run the network once.

        Returns:
            Outputs by name; they belong to the caller.

        Raises:
            EngineInputError: The inputs do not fit.
            EngineRunError: The library failed.
        """
        ...

    def close(self) -> None:
        """Release the network; the engine cannot run afterwards."""
        ...


class RowKey(NamedTuple):
    """What a row evaluates from step to step.

    Attributes:
        slot: The slot that it belongs to.
        context: The number of its context among those of the slot.
    """

    slot: int
    context: int


class StepState(Protocol):
    """The resident inputs of all slots of a denoiser, wherever they are kept."""

    @property
    def on_host(self) -> bool:
        """Whether they are kept in the memory of this process, so that reading them waits for no device."""
        ...

    def write(self, slot: int, tensors: Mapping[str, Array]) -> None:
        """Give a slot its resident inputs.

        Args:
            slot: Its number.
            tensors: Its part of each, by name, without the axis of the slots; what is left out becomes 0.
        """
        ...

    def read(self, slot: int, tensor: int) -> NDArray[np.float32]:
        """A tensor `[channels, h, w]` of a slot's state; negative numbers count from the last."""
        ...

    def finite(self, slot: int) -> bool:
        """Whether all predictions for a slot were finite."""
        ...

    def advance(
        self, inputs: Mapping[str, Array], *, keep: Mapping[RowKey, int], take: Sequence[RowKey]
    ) -> None:
        """Replace the state of all slots by the next.

        Args:
            inputs: All inputs of a step but those that are kept here. An array that is the very object of the
                step before has the same content, and need not be sent to a device again.
            keep: The rows of a full evaluation, by index, whose cached features later evaluations take.
            take: Whose cached feature each row takes in a shallow evaluation; empty for a full one.
        """
        ...

    def free(self, slot: int) -> None:
        """Forget the cached features of a slot."""
        ...


@runtime_checkable
class KeepsState(Protocol):
    """An engine of a step graph that keeps the state where it runs."""

    def open_state(self, slots: int, height: int, width: int, shallow: Engine | None = None) -> StepState:
        """State for some slots of one latent size, all 0.

        Args:
            slots: How many.
            height: Height of the latents.
            width: Width of the latents.
            shallow: The engine of the shallow form, for step caching, opened together with this one.

        Raises:
            EngineInputError: The engine has fewer slots, or is not made for this size.
        """
        ...


@runtime_checkable
class UsesHostMemory(Protocol):
    """An engine that computes in the memory of this process."""

    @property
    def activations(self) -> Activations | None:
        """What a run takes beside the weights; None where that was not measured."""
        ...


@runtime_checkable
class Clock(Protocol):
    """The clock of whatever does the work: a device is still at it when the host has gone ahead."""

    def measure(self) -> AbstractContextManager[Callable[[], float]]:
        """Time what is done inside; the value, called after it, gives the seconds and waits for them."""
        ...


def check_names(found: Set[str], path: Path, build: Build) -> None:
    """Check that a network has the inputs and outputs that the manifest describes.

    Raises:
        EngineUnavailableError: It has others.
    """
    described = {*build.inputs, *build.outputs}
    if found != described:
        raise EngineUnavailableError(
            f"{path} is not the network that the manifest describes",
            received=", ".join(sorted(found)),
            expected=", ".join(sorted(described)),
            hint="export the checkpoint again",
        )


def check_inputs(specs: Mapping[str, TensorSpec], inputs: Mapping[str, Array]) -> dict[str, int]:
    """Check names, dtypes and shapes, an axis name meaning one size wherever it stands.

    Returns:
        The size of every named axis.

    Raises:
        EngineInputError: Something does not fit; the message says what was received and expected.
    """
    if set(inputs) != set(specs):
        raise EngineInputError(
            "the engine has other inputs",
            received=", ".join(sorted(inputs)) or "none",
            expected=", ".join(sorted(specs)),
            hint="pass exactly the engine's inputs",
        )
    sizes: dict[str, int] = {}
    for name, spec in specs.items():
        _check_dtype(name, spec, inputs[name])
        _check_shape(name, spec, inputs[name].shape, sizes)
    return sizes


def _check_dtype(name: str, spec: TensorSpec, array: Array) -> None:
    if array.dtype != np.dtype(spec.dtype):
        raise EngineInputError(
            f"input {name!r} has another dtype",
            received=array.dtype,
            expected=spec.dtype,
            hint=f"convert it with .astype({spec.dtype!r})",
        )


def _check_shape(name: str, spec: TensorSpec, shape: tuple[int, ...], sizes: dict[str, int]) -> None:
    fits = len(shape) == len(spec.shape) and all(
        _axis_fits(axis, size, spec, sizes) for axis, size in zip(spec.shape, shape, strict=True)
    )
    if not fits:
        known = {axis: sizes[axis] for axis in spec.shape if isinstance(axis, str) and axis in sizes}
        raise EngineInputError(
            f"input {name!r} has a shape that does not fit",
            received=list(shape),
            expected=f"[{', '.join(map(str, spec.shape))}]{_explain(spec, known)}",
            hint="use sizes within the engine's ranges, or build an engine for these",
        )


def _axis_fits(axis: int | str, size: int, spec: TensorSpec, sizes: dict[str, int]) -> bool:
    if isinstance(axis, int):
        return size == axis
    limits = spec.ranges.get(axis)
    if limits is not None and not limits.min <= size <= limits.max:
        return False
    return sizes.setdefault(axis, size) == size


def _explain(spec: TensorSpec, known: Mapping[str, int]) -> str:
    limits = [f"{axis} {limit.min} to {limit.max}" for axis, limit in spec.ranges.items()]
    seen = [f"{axis} {size}" for axis, size in known.items() if axis not in spec.ranges]
    return f" with {', '.join(limits + seen)}" if limits or seen else ""
