"""NVIDIA GPUs, through cuda-core: memory, one stream, recorded launches."""

from __future__ import annotations

import contextlib
import importlib
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from threading import RLock
from types import ModuleType
from typing import Protocol, SupportsInt

from inpaintrt.errors import EngineError, EngineMemoryError, EngineRunError, EngineUnavailableError

__all__ = ["CudaDevice", "Gpu", "driver_version", "find_gpu", "gpu_target"]

_OUT_OF_MEMORY = "OUT_OF_MEMORY"
_MILLISECONDS = 1000  # of a second
# ONNX Runtime captures CUDA graphs in a mode in which an allocation by any other thread spoils the capture:
# all pipelines of the process that use the same GPU share its lock.
_LOCKS: defaultdict[int, RLock] = defaultdict(RLock)


@dataclass(frozen=True)
class Gpu:
    """A GPU of this machine.

    Attributes:
        index: Its number, as CUDA counts.
        name: The vendor's name.
        target: Its compute capability, e.g. "sm89".
    """

    index: int
    name: str
    target: str


def find_gpu(index: int = 0) -> Gpu:
    """Look at a GPU.

    Raises:
        EngineUnavailableError: cuda-core is not installed, or there is no driver or no such GPU.
    """
    core = _module("cuda.core")
    with _unavailable(index):
        device = core.Device(index)
        major, minor = device.compute_capability
        return Gpu(index, str(device.name), f"sm{major}{minor}")


def gpu_target(index: int = 0) -> str:
    """The compute capability of a GPU, e.g. "sm89".

    Raises:
        EngineUnavailableError: As for `find_gpu`.
    """
    return find_gpu(index).target


def driver_version() -> str:
    """The newest CUDA version that the driver supports, e.g. "13.0".

    Raises:
        EngineUnavailableError: cuda-bindings is not installed, or there is no driver.
    """
    driver = _module("cuda.bindings.driver")
    with _unavailable(0):
        status, version = driver.cuDriverGetVersion()
        _check(status, "asking the driver for its version")
    return f"{version // 1000}.{version % 1000 // 10}"


class _Buffer(Protocol):
    """What cuda-core gives for memory."""

    @property
    def handle(self) -> SupportsInt: ...

    @property
    def size(self) -> int: ...


class _Block:
    def __init__(self, buffer: _Buffer) -> None:
        self._buffer = buffer
        self.address, self.nbytes = int(buffer.handle), int(buffer.size)


class CudaDevice:
    """A GPU with a stream of its own.

    Args:
        index: The GPU's number, as CUDA counts.

    Raises:
        EngineUnavailableError: As for `find_gpu`.
    """

    def __init__(self, index: int = 0) -> None:
        self.gpu = find_gpu(index)
        self.allocations = 0
        self.synchronisations = 0
        self._lock = _LOCKS[index]
        self._core = _module("cuda.core")
        self._driver = _module("cuda.bindings.driver")
        with _unavailable(index):
            self._device = self._core.Device(index)
            self._device.set_current()
            options = self._core.StreamOptions(nonblocking=True)
            self._stream = self._device.create_stream(options=options)
            self._pinned = self._core.LegacyPinnedMemoryResource()

    @property
    def stream(self) -> int:
        """The stream's handle."""
        return int(self._stream.handle)

    @contextlib.contextmanager
    def use(self) -> Iterator[None]:
        """Own the GPU in this thread."""
        with self._lock:
            self._device.set_current()
            yield

    def allocate(self, nbytes: int) -> _Block:
        """Memory of the GPU.

        Raises:
            EngineMemoryError: There is too little.
        """
        with _failing(f"allocating {nbytes} bytes on {self.gpu.name}"):
            buffer = self._device.allocate(max(nbytes, 1), stream=self._stream)
        self.allocations += 1
        return _Block(buffer)

    def allocate_pinned(self, nbytes: int) -> _Block:
        """Pinned memory of the host.

        Raises:
            EngineMemoryError: There is too little.
        """
        with _failing(f"allocating {nbytes} bytes of pinned host memory"):
            buffer = self._pinned.allocate(max(nbytes, 1), stream=self._stream)
        self.allocations += 1
        return _Block(buffer)

    def copy(self, target: int, source: int, nbytes: int) -> None:
        """Enqueue a copy between addresses of the GPU or of pinned memory."""
        (status,) = self._driver.cuMemcpyAsync(target, source, nbytes, self._stream.handle)
        _check(status, f"copying {nbytes} bytes")

    def synchronise(self) -> None:
        """Wait until all that was enqueued is done; failures of the GPU's work come up here."""
        self.synchronisations += 1
        with _failing(f"running on {self.gpu.name}"):
            self._stream.sync()

    @contextlib.contextmanager
    def measure(self) -> Iterator[Callable[[], float]]:
        """Time the work that is enqueued inside; the value, called after it, waits and gives the seconds."""
        with _failing("recording an event"):
            options = self._core.EventOptions(timing_enabled=True)
            start, end = (self._device.create_event(options) for _ in range(2))
            self._stream.record(start)

        def read() -> float:
            with _failing(f"running on {self.gpu.name}"):
                end.sync()
                return float(end - start) / _MILLISECONDS

        yield read
        with _failing("recording an event"):
            self._stream.record(end)

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        """Record what `work` enqueues on the stream as one launch."""
        with _failing("recording a CUDA graph"):
            builder = self._stream.create_graph_builder().begin_building("thread_local")
            try:
                work()
            except BaseException:
                with contextlib.suppress(_cuda_error()):  # it says again that the capture failed
                    builder.end_building()
                raise
            graph = builder.end_building().complete()

        def launch() -> None:
            with _failing("launching a CUDA graph"):
                graph.launch(self._stream)

        return launch

    def free_memory(self) -> tuple[int, int]:
        """Free and total memory in bytes."""
        with self.use():
            status, free, total = self._driver.cuMemGetInfo()
            _check(status, "asking for free memory")
        return int(free), int(total)


def _module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        package = "-".join(name.split(".")[:2])
        raise EngineUnavailableError(
            f"GPU backends need the Python package {package}, which cannot be imported",
            received=str(error),
            hint="pip install 'inpaintrt[cuda]', 'inpaintrt[tensorrt]' or 'inpaintrt[tensorrt-rtx]'",
        ) from error


def _cuda_error() -> type[Exception]:
    # cuda-core has no public name for the one exception that it raises for every CUDA status.
    error: type[Exception] = _module("cuda.core._utils.cuda_utils").CUDAError
    return error


@contextlib.contextmanager
def _unavailable(index: int) -> Iterator[None]:
    try:
        yield
    except (EngineRunError, RuntimeError, ValueError, _cuda_error()) as error:
        raise EngineUnavailableError(
            f"there is no usable NVIDIA GPU {index} on this machine",
            received=str(error).strip(),
            expected="an NVIDIA GPU and its driver",
            hint="run `inpaintrt doctor`; the backend 'onnxruntime' needs no GPU",
        ) from error


@contextlib.contextmanager
def _failing(doing: str) -> Iterator[None]:
    try:
        yield
    except _cuda_error() as error:
        raise _named(doing, str(error)) from error


def _check(status: object, doing: str) -> None:
    if "SUCCESS" not in str(status):
        raise _named(doing, str(status))


def _named(doing: str, reason: str) -> EngineError:
    if _OUT_OF_MEMORY in reason.upper():
        return EngineMemoryError(
            f"the device ran out of memory while {doing}",
            received=reason,
            hint="pass low_vram=True, build plans for a smaller batch or size, or free the device",
        )
    return EngineRunError(f"CUDA failed while {doing}", received=reason)
