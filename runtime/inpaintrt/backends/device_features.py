"""Cached features of rows in device memory, for step caching."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from inpaintrt.backends.device import Device, GrowingMemory
from inpaintrt.backends.engine import RowKey

__all__ = ["DeviceFeatures"]


class DeviceFeatures:
    """What a denoiser gives and its shallow form takes, each row in memory of its own.

    Args:
        device: Where it is kept.
        nbytes: Bytes of one row.
    """

    def __init__(self, device: Device, nbytes: int) -> None:
        self._device = device
        self._nbytes = nbytes
        self._kept: dict[RowKey, GrowingMemory] = {}

    def keep(self, address: int, rows: Mapping[RowKey, int]) -> None:
        """Copy rows of an engine's output, by their index, in the place of those before."""
        for key, row in rows.items():
            memory = self._kept.setdefault(key, GrowingMemory(self._device))
            self._device.copy(memory.reserve(self._nbytes), address + row * self._nbytes, self._nbytes)

    def take(self, address: int, keys: Sequence[RowKey]) -> None:
        """Copy the features of some rows to an engine's input, in their order."""
        for row, key in enumerate(keys):
            source = self._kept[key].address
            self._device.copy(address + row * self._nbytes, source, self._nbytes)
