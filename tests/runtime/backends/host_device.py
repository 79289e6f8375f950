"""A device in host memory whose stream runs late, so that whoever does not wait reads what is not there yet.

ONNX Runtime binds to its addresses as it binds to a GPU's, so that everything but the GPU is the real thing.
"""

import contextlib
import ctypes
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from threading import RLock

import numpy as np

from inpaintrt.backends.device import Staging
from inpaintrt.backends.device_engine import DeviceEngine
from inpaintrt.backends.onnxruntime_cuda import OrtNetwork
from inpaintrt.backends.shapes import Shapes
from inpaintrt.bundle import Build

__all__ = ["HostDevice", "LateNetwork", "host_engine", "host_engines"]


class HostMemory:
    def __init__(self, nbytes: int) -> None:
        # Not a number in whatever type it is read: unwritten memory shows in results.
        self._content = np.full(nbytes, 0xFF, np.uint8)
        self.nbytes = nbytes

    @property
    def address(self) -> int:
        return self._content.ctypes.data


class HostDevice:
    """Work is put off until the host waits."""

    stream = 0

    def __init__(self) -> None:
        self.allocations = self.synchronisations = self.recordings = self.launches = 0
        self.largest_copies: list[int] = []
        self._done = 0
        self._queue: list[Callable[[], object]] = []
        self._lock = RLock()

    @contextlib.contextmanager
    def use(self) -> Iterator[None]:
        with self._lock:
            yield

    def allocate(self, nbytes: int) -> HostMemory:
        self.allocations += 1
        return HostMemory(nbytes)

    allocate_pinned = allocate

    def copy(self, target: int, source: int, nbytes: int) -> None:
        self.largest_copies.append(nbytes)
        self._queue.append(partial(ctypes.memmove, target, source, nbytes))

    def enqueue(self, work: Callable[[], None]) -> None:
        self._queue.append(work)

    def synchronise(self) -> None:
        self.synchronisations += 1
        self._work()

    def _work(self) -> None:
        queue, self._queue = self._queue, []
        for work in queue:
            work()
            self._done += 1

    @contextlib.contextmanager
    def measure(self) -> Iterator[Callable[[], float]]:
        """The device's clock ticks once for each piece of work that it has done."""
        moments: list[int] = []

        def read() -> float:
            if len(moments) < 2:
                self._work()
            return moments[1] - moments[0]

        self._queue.append(lambda: moments.append(self._done))
        yield read
        self._queue.append(lambda: moments.append(self._done))

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        self.recordings += 1
        queue, self._queue = self._queue, []
        work()
        recorded, self._queue = self._queue, queue

        def launch() -> None:
            self.launches += 1
            self._queue += recorded

        return launch


class LateNetwork(OrtNetwork):
    """ONNX Runtime on the CPU, put into the device's queue."""

    def __init__(self, path: Path, build: Build, device: HostDevice, *, records: bool) -> None:
        super().__init__(
            path,
            build,
            device,
            provider="CPUExecutionProvider",
            provider_options={},
            row_buckets=(1, 2, 4, 8),
        )
        self.records = records
        self.epoch = 0
        self._queueing = device

    def prepare(self) -> int:
        return self.epoch

    def bind(self, shapes: Shapes, addresses: Mapping[str, int]) -> Callable[[], None]:
        run = super().bind(shapes, addresses)
        return lambda: self._queueing.enqueue(run)


def host_engine(folder: Path, build: Build, *, records: bool = True) -> DeviceEngine:
    """A device engine on a host device with little staging memory, so that it must wait now and then."""
    (engine,) = host_engines(folder, build, records=records)
    return engine


def host_engines(folder: Path, *builds: Build, records: bool = True) -> list[DeviceEngine]:
    """Device engines that share such a device, as those of a bundle do."""
    device = HostDevice()
    staging = Staging(device, 4096)
    networks = [LateNetwork(folder / build.file, build, device, records=records) for build in builds]
    return [DeviceEngine(network, device, staging) for network in networks]
