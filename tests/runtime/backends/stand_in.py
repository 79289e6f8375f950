"""A stand-in for TensorRT: plans are paths of ONNX files, which ONNX Runtime runs at the addresses bound.

It holds callers to the library's rules: a profile, scratch memory, all shapes and all addresses before a run,
shapes of the profile only, and weights on the device.
"""

import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import onnxruntime

from inpaintrt.backends.shapes import axis_sizes, resolve
from inpaintrt.backends.tensorrt_api import IRuntimeConfig
from inpaintrt.backends.tensorrt_library import PlanLibrary
from inpaintrt.bundle import Build
from runtime.backends.host_device import HostDevice

__all__ = ["DeferringRuntime", "StandInRuntime", "stand_in_library", "stand_in_rtx"]

SCRATCH_BYTES = 4096


class _Strategy(Enum):
    USER_MANAGED = 0
    WHOLE_GRAPH_CAPTURE = 1
    EAGER = 2


def stand_in_library() -> PlanLibrary:
    """A library with TensorRT's features: nothing that only TensorRT-RTX has."""
    module = SimpleNamespace(ExecutionContextAllocationStrategy=_Strategy, __version__="11.4")
    return PlanLibrary("tensorrt", module, SimpleNamespace(listeners=()))


def stand_in_rtx() -> PlanLibrary:
    """A library with what TensorRT-RTX does at run time: it records launches and keeps kernels."""
    names = [
        "ExecutionContextAllocationStrategy",
        "CudaGraphStrategy",
        "DynamicShapesKernelSpecializationStrategy",
    ]
    module = SimpleNamespace(IRuntimeCache=_Cache, __version__="1.7.1", **dict.fromkeys(names, _Strategy))
    return PlanLibrary("tensorrt-rtx", module, SimpleNamespace(listeners=()))


class _Cache:
    """A runtime cache that counts the contexts that use it."""

    users = 0

    def serialize(self) -> bytes:
        return b"%d" % self.users

    def deserialize(self, blob: bytes) -> bool:
        self.users = int(blob)
        return True


@dataclass
class StandInRuntime:
    """Reads plans; `log` tells what was loaded, `alive` what has not been freed."""

    device: HostDevice
    plans: dict[bytes, tuple[Build, Path]]
    library: PlanLibrary
    log: list[str] = field(default_factory=list)
    memory: int = 10**9
    alive: "weakref.WeakSet[_Engine]" = field(default_factory=weakref.WeakSet)

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> "_Engine | None":
        if serialized_engine not in self.plans:
            self._report("this is no plan")
            return None
        if self.memory < SCRATCH_BYTES:
            self._report("Requested size was 4096 bytes. CUDA out of memory")
            return None
        plan, path = self.plans[serialized_engine]
        self.log.append(plan.component)
        engine = _Engine(self, plan, path)
        self.alive.add(engine)
        return engine

    def _report(self, text: str) -> None:
        for reports in self.library.logger.listeners:
            reports.messages.append(text)


@dataclass
class DeferringRuntime(StandInRuntime):
    """The same with weights that come after the plan, and go before it."""

    defer_weights_loading: bool = False

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> "_Engine | None":
        engine = super().deserialize_cuda_engine(serialized_engine)
        if engine is not None:
            engine.weights = None if self.defer_weights_loading else serialized_engine
        return engine


@dataclass
class _Config:
    strategy: object = None
    cuda_graph_strategy: object = None
    dynamic_shapes_kernel_specialization_strategy: object = None

    def create_runtime_cache(self) -> _Cache:
        return _Cache()

    def set_runtime_cache(self, cache: _Cache) -> bool:
        cache.users += 1
        return True

    def set_execution_context_allocation_strategy(self, strategy: object) -> None:
        self.strategy = strategy


class _Engine:
    device_memory_size_v2 = SCRATCH_BYTES

    def __init__(self, runtime: StandInRuntime, plan: Build, path: Path) -> None:
        self.runtime, self.plan = runtime, plan
        self.session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        self.weights: bytes | None = b""
        self.names = [*plan.inputs, *plan.outputs]
        self.num_io_tensors = len(self.names)
        self.num_optimization_profiles = len(plan.profiles)

    def get_tensor_name(self, index: int) -> str:
        return self.names[index]

    def load_weights(self, blob: bytes) -> bool:
        self.runtime.log.append(f"weights of {self.plan.component}")
        fits = self.weights is None and blob == self.plan.component.encode()
        self.weights = blob
        return fits

    def unload_weights(self) -> bool:
        loaded, self.weights = self.weights is not None, None
        return loaded

    def create_runtime_config(self) -> _Config:
        return _Config()

    def create_execution_context(self, runtime_config: IRuntimeConfig) -> "_Context":
        assert isinstance(runtime_config, _Config)
        assert runtime_config.strategy is _Strategy.USER_MANAGED
        return _Context(self)


class _Context:
    def __init__(self, engine: _Engine) -> None:
        self._engine = engine
        self._profile: int | None = None
        self._scratch: tuple[int, int] | None = None
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._addresses: dict[str, int] = {}

    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
        self._profile = profile_index
        return stream_handle == self._engine.runtime.device.stream

    def set_device_memory(self, memory: int, size: int) -> None:
        self._scratch = memory, size

    def set_input_shape(self, name: str, shape: Sequence[int]) -> bool:
        assert self._profile is not None
        self._shapes[name] = tuple(shape)
        return self._engine.plan.profiles[self._profile][name] == tuple(shape)

    def infer_shapes(self) -> Sequence[str]:
        return [name for name in self._engine.plan.inputs if name not in self._shapes]

    def set_tensor_address(self, name: str, memory: int) -> bool:
        self._addresses[name] = memory
        return name in self._engine.names and memory != 0

    def execute_async_v3(self, stream_handle: int) -> bool:
        if self._engine.weights is None:
            return False
        if self._scratch is None or self._scratch[0] == 0 or self._scratch[1] < SCRATCH_BYTES:
            return False
        self._engine.runtime.device.enqueue(self._run(dict(self._shapes), dict(self._addresses)))
        return True

    def _run(self, shapes: dict[str, tuple[int, ...]], addresses: dict[str, int]) -> Callable[[], None]:
        session, plan = self._engine.session, self._engine.plan
        binding = session.io_binding()
        for name, shape in shapes.items():
            binding.bind_input(name, "cpu", 0, plan.inputs[name].dtype, shape, addresses[name])
        for name in plan.outputs:
            shape = self._output_shape(name)
            binding.bind_output(name, "cpu", 0, plan.outputs[name].dtype, shape, addresses[name])
        return partial(session.run_with_iobinding, binding)

    def _output_shape(self, name: str) -> tuple[int, ...]:
        plan = self._engine.plan
        return resolve(plan.outputs[name], axis_sizes(plan.inputs, self._shapes))
