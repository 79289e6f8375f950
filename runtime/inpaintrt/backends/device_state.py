"""The state of a denoiser, kept on a device."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from math import prod
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from inpaintrt.backends.device import GrowingMemory
from inpaintrt.backends.device_features import DeviceFeatures
from inpaintrt.backends.engine import Array, RowKey
from inpaintrt.backends.shapes import Shapes
from inpaintrt.bundle import CACHED_FEATURE
from inpaintrt.conditioning import resident, slot_shape
from inpaintrt.errors import EngineInputError

if TYPE_CHECKING:
    from inpaintrt.backends.device_engine import DeviceEngine

__all__ = ["DeviceState"]


class DeviceState:
    """The resident inputs of a denoiser's slots, in device memory.

    While it is the only one it stays in the network's own buffers; when another state of the same engine
    steps, it moves to memory of its own, and back when its turn comes. With step caching it moves between the
    buffers of the denoiser and those of its shallow form, which run it by turns.

    Attributes:
        shapes: Shapes of the resident inputs.
        features: Cached features of its rows.
        ahead: The network has put the next values beside the values, and they have not been copied over yet.

    Args:
        engine: The engine of the step graph.
        slots: How many slots are wanted; the network may have more, which stay unused.
        height: Height of the latents.
        width: Width of the latents.
        shallow: The engine of the shallow form; None without step caching.
    """

    def __init__(
        self, engine: DeviceEngine, slots: int, height: int, width: int, shallow: DeviceEngine | None = None
    ) -> None:
        self._engine = self._full = engine
        self._shallow = shallow
        wanted = {
            name: (slots, *slot_shape(spec, height, width)) for name, spec in resident(engine.inputs).items()
        }
        if not wanted:
            raise EngineInputError("the engine has no step graph", received=", ".join(engine.inputs))
        fitted = engine.fit(wanted)
        self.shapes: dict[str, tuple[int, ...]] = {name: fitted[name] for name in wanted}
        self.ahead = False
        feature = None if shallow is None else shallow.inputs[CACHED_FEATURE]
        self._feature_shape = () if feature is None else slot_shape(feature, height, width)
        itemsize = 0 if feature is None else np.dtype(feature.dtype).itemsize
        self.features = DeviceFeatures(engine.device, prod(self._feature_shape) * itemsize)
        self._home: dict[str, GrowingMemory] = {}
        self._sent: dict[str, tuple[Array, tuple[int, ...], int]] = {}

    @property
    def on_host(self) -> bool:
        """They are not."""
        return False

    def write(self, slot: int, tensors: Mapping[str, Array]) -> None:
        """Give a slot its resident inputs."""
        with self._engine.device.use():
            self._engine.settle(self)
            for name, address in self._engine.reside(self).items():
                whole = np.zeros(self.shapes[name][1:], np.float32)
                whole[...] = tensors.get(name, 0)
                self._engine.upload(whole, address + slot * whole.nbytes)

    def read(self, slot: int, tensor: int) -> NDArray[np.float32]:
        """A tensor `[channels, h, w]` of a slot's state."""
        tensors, *shape = self.shapes["state"][1:]
        return self._download("state", slot * tensors + (tensor % tensors), shape)

    def finite(self, slot: int) -> bool:
        """Whether all predictions for a slot were finite."""
        return bool(self._download("finite", slot, ()))

    def _download(self, name: str, index: int, shape: Sequence[int]) -> NDArray[np.float32]:
        found = np.empty(shape, np.float32)
        with self._engine.device.use():
            address = self._engine.reside(self)[name]
            self._engine.download(address + index * found.nbytes, found)
        return found

    def advance(
        self, inputs: Mapping[str, Array], *, keep: Mapping[RowKey, int], take: Sequence[RowKey]
    ) -> None:
        """Replace the state by the next; returns while the device still works on it."""
        with self._engine.device.use():
            if take and self._shallow is not None:
                self._move_to(self._shallow)
                inputs = {name: array for name, array in inputs.items() if name in self._shallow.inputs}
            else:
                self._move_to(self._full)
            self._engine.advance(self, inputs, keep=keep, take=take)

    def _move_to(self, engine: DeviceEngine) -> None:
        if engine is not self._engine:
            self._engine.release(self)
            self._engine = engine

    def free(self, slot: int) -> None:
        """Nothing: the memory of cached features stays for the slot's next request."""

    def feature_shapes(self, rows: int) -> dict[str, tuple[int, ...]]:
        """The shape of the cached features of some rows, by the input's name; nothing without rows."""
        return {CACHED_FEATURE: (rows, *self._feature_shape)} if rows else {}

    @contextlib.contextmanager
    def measure(self) -> Iterator[Callable[[], float]]:
        """Time the device's work; the value, called afterwards, waits and gives the seconds."""
        with self._engine.device.use(), self._engine.device.measure() as read:
            yield read

    def changed(
        self, inputs: Mapping[str, Array], shapes: Shapes, addresses: Mapping[str, int]
    ) -> dict[str, Array]:
        """Those inputs that the device does not hold from the step before."""
        sent = {name: (array, shapes[name], addresses[name]) for name, array in inputs.items()}
        new = {name: array for name, array in inputs.items() if not _same(self._sent.get(name), sent[name])}
        self._sent = sent
        return new

    def move_in(self, addresses: Mapping[str, int]) -> None:
        """Copy from memory of its own, or zeros in the beginning, to the network's buffers."""
        self._sent = {}
        for name, target in addresses.items():
            if name in self._home:
                self._engine.device.copy(target, self._home[name].address, self.nbytes(name))
            else:
                self._engine.upload(np.zeros(self.shapes[name], np.float32), target)

    def move_out(self, addresses: Mapping[str, int]) -> None:
        """Copy from the network's buffers to memory of its own."""
        for name, source in addresses.items():
            home = self._home.setdefault(name, GrowingMemory(self._engine.device))
            self._engine.device.copy(home.reserve(self.nbytes(name)), source, self.nbytes(name))

    def nbytes(self, name: str) -> int:
        """Bytes of a resident input."""
        return prod(self.shapes[name]) * np.dtype(np.float32).itemsize


def _same(old: tuple[Array, tuple[int, ...], int] | None, new: tuple[Array, tuple[int, ...], int]) -> bool:
    return old is not None and old[0] is new[0] and old[1:] == new[1:]
