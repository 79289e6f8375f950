"""What we use of TensorRT and TensorRT-RTX, as types.

The libraries' Python modules carry no types, and plans mostly run where no test does. So everything that we
call is written down here under the library's own name: the type checker holds our code to this file, and a
test holds this file to the modules. What only TensorRT-RTX has stands in classes that end in `Rtx`, and in
`IRuntimeCache`.
"""

# The methods are documented by the library, and their parameters bear its names.
# ruff: noqa: A002, D102

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

__all__ = [
    "Builder",
    "IBuilderConfig",
    "IBuilderConfigRtx",
    "ICudaEngine",
    "ICudaEngineRtx",
    "IExecutionContext",
    "IHostMemory",
    "INetworkDefinition",
    "IOptimizationProfile",
    "IRuntimeCache",
    "IRuntimeConfig",
    "IRuntimeConfigRtx",
    "ITimingCache",
    "OnnxParser",
    "ParserError",
    "Runtime",
    "RuntimeRtx",
]


class IHostMemory(Protocol):
    """Bytes that the library owns."""

    def __buffer__(self, flags: int, /) -> memoryview: ...


class INetworkDefinition(Protocol):
    """A network before it is built."""

    @property
    def num_layers(self) -> int: ...


class IOptimizationProfile(Protocol):
    """Shapes of all inputs."""

    def set_shape(
        self,
        input: str,
        min: Sequence[int],
        opt: Sequence[int],
        max: Sequence[int],
    ) -> None: ...


class ITimingCache(Protocol):
    """What TensorRT has measured of its kernels."""

    def serialize(self) -> IHostMemory: ...


class IBuilderConfig(Protocol):
    """How a network is built."""

    progress_monitor: object

    def add_optimization_profile(self, profile: IOptimizationProfile) -> int: ...

    def create_timing_cache(self, serialized_timing_cache: bytes) -> ITimingCache: ...

    def set_timing_cache(self, cache: ITimingCache, ignore_mismatch: bool) -> bool: ...

    def get_timing_cache(self) -> ITimingCache: ...


class IBuilderConfigRtx(IBuilderConfig, Protocol):
    """The same with the GPUs to build for."""

    num_compute_capabilities: int

    def set_compute_capability(self, compute_capability: object, index: int) -> bool: ...


class Builder(Protocol):
    """Builds plans."""

    def create_network(self, flags: int) -> INetworkDefinition: ...

    def create_builder_config(self) -> IBuilderConfig: ...

    def create_optimization_profile(self) -> IOptimizationProfile: ...

    def build_serialized_network_to_stream(
        self, network: INetworkDefinition, config: IBuilderConfig, writer: object
    ) -> bool: ...


class ParserError(Protocol):
    """Why a graph was refused. It also has `node()`, which crashes where there is no node."""

    def desc(self) -> str: ...

    def node_name(self) -> str: ...

    def node_operator(self) -> str: ...


class OnnxParser(Protocol):
    """Reads ONNX files."""

    @property
    def num_errors(self) -> int: ...

    def parse_from_file(self, model: str) -> bool: ...

    def get_error(self, index: int) -> ParserError: ...


class IExecutionContext(Protocol):
    """A plan at one profile."""

    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool: ...

    def set_device_memory(self, memory: int, size: int) -> None: ...

    def set_input_shape(self, name: str, shape: Sequence[int]) -> bool: ...

    def infer_shapes(self) -> Sequence[str]: ...

    def set_tensor_address(self, name: str, memory: int) -> bool: ...

    def execute_async_v3(self, stream_handle: int) -> bool: ...


class IRuntimeConfig(Protocol):
    """How contexts are made."""

    def set_execution_context_allocation_strategy(self, strategy: object) -> None: ...


class IRuntimeCache(Protocol):
    """Kernels that TensorRT-RTX finished on this GPU."""

    def serialize(self) -> IHostMemory: ...

    def deserialize(self, blob: bytes) -> bool: ...


class IRuntimeConfigRtx(IRuntimeConfig, Protocol):
    """The same with what TensorRT-RTX does at run time."""

    cuda_graph_strategy: object
    dynamic_shapes_kernel_specialization_strategy: object

    def create_runtime_cache(self) -> IRuntimeCache: ...

    def set_runtime_cache(self, cache: IRuntimeCache) -> bool: ...


class ICudaEngine(Protocol):
    """A plan on a GPU."""

    @property
    def num_io_tensors(self) -> int: ...

    @property
    def num_optimization_profiles(self) -> int: ...

    @property
    def device_memory_size_v2(self) -> int: ...

    def get_tensor_name(self, index: int) -> str: ...

    def create_runtime_config(self) -> IRuntimeConfig: ...

    def create_execution_context(self, runtime_config: IRuntimeConfig) -> IExecutionContext | None: ...


class ICudaEngineRtx(ICudaEngine, Protocol):
    """The same with weights that come and go."""

    def load_weights(self, blob: bytes) -> bool: ...

    def unload_weights(self) -> bool: ...


class Runtime(Protocol):
    """Reads plans."""

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> ICudaEngine | None: ...


class RuntimeRtx(Runtime, Protocol):
    """The same with a look at a plan before it is read."""

    defer_weights_loading: bool

    @property
    def engine_header_size(self) -> int: ...

    def get_engine_validity(self, buffer: bytes) -> tuple[object, int]: ...
