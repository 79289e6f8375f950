"""Memory that grows, and the way through pinned memory, on a device whose stream runs late."""

import numpy as np
import pytest

from inpaintrt.backends.device import GrowingMemory, Staging
from runtime.backends.host_device import HostDevice


def test_memory_grows_and_does_not_shrink() -> None:
    device = HostDevice()
    memory = GrowingMemory(device)
    assert (memory.address, memory.nbytes) == (0, 0)
    first = memory.reserve(100)
    assert memory.reserve(50) == first
    assert (memory.nbytes, device.allocations, device.synchronisations) == (100, 1, 0)
    memory.reserve(200)
    assert (memory.nbytes, device.allocations, device.synchronisations) == (200, 2, 1)


@pytest.mark.parametrize("nbytes", [1, 256, 1000, 5000])
def test_arrays_arrive_whatever_their_size(nbytes: int) -> None:
    device = HostDevice()
    staging, memory = Staging(device, 1024), GrowingMemory(device)
    random = np.random.default_rng(nbytes)
    arrays = [random.integers(0, 255, nbytes).astype(np.uint8) for _ in range(7)]
    base = memory.reserve(7 * nbytes)
    for index, array in enumerate(arrays):
        sent = array.copy()
        staging.upload(sent, base + index * nbytes)
        sent[:] = 0  # the caller's array is free at once
    for index, array in enumerate(arrays):
        found = np.empty_like(array)
        staging.download(base + index * nbytes, found)
        np.testing.assert_array_equal(found, array)


def test_the_host_waits_only_when_the_block_is_full() -> None:
    device = HostDevice()
    staging, memory = Staging(device, 1024), GrowingMemory(device)
    address = memory.reserve(256)
    array = np.arange(64, dtype=np.float32)
    for _ in range(4):
        staging.upload(array, address)
    assert device.synchronisations == 0
    staging.upload(array, address)
    assert device.synchronisations == 1


def test_arrays_that_are_not_contiguous_arrive_in_order() -> None:
    device = HostDevice()
    staging, memory = Staging(device), GrowingMemory(device)
    array = np.arange(12, dtype=np.float16).reshape(3, 4).T
    address = memory.reserve(array.nbytes)
    staging.upload(array, address)
    found = np.empty(array.shape, np.float16)
    staging.download(address, found)
    np.testing.assert_array_equal(found, array)
