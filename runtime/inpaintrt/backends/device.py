"""Memory of a device and the one stream on which everything runs in order, whatever the device is."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from inpaintrt.backends.engine import Array

__all__ = ["Device", "GrowingMemory", "Memory", "Staging"]

_ALIGNMENT = 256  # bytes; what TensorRT asks of scratch memory is enough for all
_STAGING_BYTES = 2**22


class Memory(Protocol):
    """A block of memory, which is freed with this object."""

    @property
    def address(self) -> int:
        """Where it begins."""
        ...

    @property
    def nbytes(self) -> int:
        """Its size."""
        ...


class Device(Protocol):
    """A device with a stream: work is enqueued and runs in order, while the host goes on.

    Attributes:
        allocations: How often memory was allocated.
        synchronisations: How often the host waited.
    """

    allocations: int
    synchronisations: int

    @property
    def stream(self) -> int:
        """The stream's handle."""
        ...

    def use(self) -> AbstractContextManager[None]:
        """Own the device in this thread; everything below is called inside."""
        ...

    def allocate(self, nbytes: int) -> Memory:
        """Memory of the device.

        Raises:
            EngineMemoryError: There is too little.
        """
        ...

    def allocate_pinned(self, nbytes: int) -> Memory:
        """Memory of the host that the device copies from and to by itself.

        Raises:
            EngineMemoryError: There is too little.
        """
        ...

    def copy(self, target: int, source: int, nbytes: int) -> None:
        """Enqueue a copy between addresses of the device or of pinned memory."""
        ...

    def synchronise(self) -> None:
        """Wait until all that was enqueued is done."""
        ...

    def measure(self) -> AbstractContextManager[Callable[[], float]]:
        """Time the work that is enqueued inside; the value, called after it, waits and gives the seconds."""
        ...

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        """Record what `work` enqueues, without running it, as one launch."""
        ...


class GrowingMemory:
    """Memory of a device that grows when it must and never shrinks."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._memory: Memory | None = None

    @property
    def address(self) -> int:
        """Where it begins; 0 before the first `reserve`."""
        return 0 if self._memory is None else self._memory.address

    @property
    def nbytes(self) -> int:
        """Its size."""
        return 0 if self._memory is None else self._memory.nbytes

    def reserve(self, nbytes: int) -> int:
        """Make room, losing the content if it must grow, and return the address."""
        if nbytes > self.nbytes:
            if self._memory is not None:
                self._device.synchronise()  # work under way may still use the old block
            self._memory = None  # freed before the new block is allocated
            self._memory = self._device.allocate(nbytes)
        return self.address


class Staging:
    """Pinned host memory through which arrays reach a device and come back.

    Arrays of one step lie side by side, so that the host waits only when the block is full.
    """

    def __init__(self, device: Device, nbytes: int = _STAGING_BYTES) -> None:
        self._device = device
        self._memory = device.allocate_pinned(nbytes)
        self._cursor = 0

    def upload(self, array: Array, address: int) -> None:
        """Enqueue a copy of an array to the device; the array may be changed at once."""
        content = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        place = self._take(content.nbytes)
        self._view(place, content.nbytes)[:] = content
        self._device.copy(address, place, content.nbytes)

    def download(self, address: int, array: Array) -> None:
        """Wait for all work and copy from the device into an array, which is contiguous."""
        place = self._take(array.nbytes)
        self._device.copy(place, address, array.nbytes)
        self.synchronise()
        array.reshape(-1).view(np.uint8)[:] = self._view(place, array.nbytes)

    def synchronise(self) -> None:
        """Wait for all work; the whole block is free again."""
        self._device.synchronise()
        self._cursor = 0

    def _take(self, nbytes: int) -> int:
        if self._cursor + nbytes > self._memory.nbytes:
            self.synchronise()
        if nbytes > self._memory.nbytes:
            self._memory = self._device.allocate_pinned(nbytes)
        place = self._memory.address + self._cursor
        self._cursor += -(-nbytes // _ALIGNMENT) * _ALIGNMENT
        return place

    def _view(self, address: int, nbytes: int) -> NDArray[np.uint8]:
        view: NDArray[np.uint8] = np.ctypeslib.as_array((ctypes.c_uint8 * nbytes).from_address(address))
        return view
