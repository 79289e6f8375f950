"""Engines on TensorRT and TensorRT-RTX: plans, run at static shapes."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from inpaintrt.backends.cuda import CudaDevice, driver_version
from inpaintrt.backends.device import GrowingMemory, Staging
from inpaintrt.backends.device_engine import DeviceEngine
from inpaintrt.backends.kernel_cache import KernelCache
from inpaintrt.backends.options import check_options, flag, integer
from inpaintrt.backends.shapes import Shapes, choose_profile
from inpaintrt.backends.tensorrt_api import (
    ICudaEngine,
    ICudaEngineRtx,
    IExecutionContext,
    IRuntimeConfig,
    IRuntimeConfigRtx,
    Runtime,
    RuntimeRtx,
)
from inpaintrt.backends.tensorrt_library import PlanLibrary, Reports, load_library
from inpaintrt.bundle import Build, Manifest, choose_builds
from inpaintrt.errors import EngineError, EngineMemoryError, EngineRunError, PlanError
from inpaintrt.lora import Lora, check_components, describe_loras

__all__ = ["PlanHost", "PlanNetwork", "check_plan", "open_engines"]

_LOG = logging.getLogger(__name__)
_OPTIONS = ("device", "low_vram")
_OUT_OF_MEMORY = ("out of memory", "outofmemory", "memory allocation")


@dataclass
class PlanHost:
    """What the plans of one bundle share.

    Attributes:
        library: TensorRT or TensorRT-RTX.
        runtime: Reads plans.
        device: The GPU.
        scratch: Memory for results between layers, the same for all, since they run one after the other.
        low_vram: Keep the weights of one component at a time on the GPU.
        resident: The component whose weights are there, in that case.
    """

    library: PlanLibrary
    runtime: Runtime
    device: CudaDevice
    scratch: GrowingMemory
    low_vram: bool
    resident: PlanNetwork | None = None

    def make_room_for(self, network: PlanNetwork) -> None:
        """Where there is room for one component only, have the other leave."""
        if self.low_vram and self.resident is not network:
            if self.resident is not None:
                self.device.synchronise()
                self.resident.unload()
            self.resident = network


class PlanNetwork:
    """A plan, with one execution context for each profile.

    Args:
        plan: Its description in the manifest.
        path: Its file.
        host: What it shares with the bundle's other plans.
        cache: Where TensorRT-RTX keeps finished kernels.
    """

    def __init__(self, plan: Build, path: Path, host: PlanHost, cache: KernelCache) -> None:
        self.inputs, self.outputs, self.profiles = plan.inputs, plan.outputs, plan.profiles
        self.records = not host.library.has_runtime_cache  # TensorRT-RTX records CUDA graphs by itself
        self._path, self._host, self._cache = path, host, cache
        self._engine: ICudaEngine | None = None
        self._contexts: dict[int, IExecutionContext] = {}
        self._deferred = b""  # the plan, where its weights come and go without it
        self._resident = False
        self._scratch_address = 0
        self._epoch = 0

    def fit(self, shapes: Shapes) -> Shapes:
        """The smallest profile that holds tensors of these shapes."""
        return self.profiles[choose_profile(self.profiles, self.inputs, shapes)]

    def prepare(self) -> int:
        """Have the weights on the GPU.

        Raises:
            PlanError: The library refuses the plan.
            EngineMemoryError: The GPU has too little memory.
        """
        self._host.make_room_for(self)
        if self._engine is None:
            self._engine = self._load()
            self._epoch += 1
        if self._deferred and not self._resident:
            self._load_weights(cast("ICudaEngineRtx", self._engine))
        if self._scratch_address != self._host.scratch.address:
            self._scratch_address = self._host.scratch.address
            self._epoch += 1
        return self._epoch

    def _load(self) -> ICudaEngine:
        content = self._path.read_bytes()
        library, runtime = self._host.library, self._host.runtime
        check_plan(library, runtime, content, self._path)
        defers = self._host.low_vram and hasattr(runtime, "defer_weights_loading")
        if defers:
            cast("RuntimeRtx", runtime).defer_weights_loading = True
        with library.listen() as reports:
            engine = runtime.deserialize_cuda_engine(content)
        if engine is None:
            raise _refused(library, self._path, reports)
        self._check_names(engine)
        self._deferred = content if defers else b""
        self._resident = not defers
        self._host.scratch.reserve(max(engine.device_memory_size_v2, 1))
        return engine

    def _check_names(self, engine: ICudaEngine) -> None:
        found = {engine.get_tensor_name(index) for index in range(engine.num_io_tensors)}
        described = {*self.inputs, *self.outputs}
        if found != described or engine.num_optimization_profiles != len(self.profiles):
            raise PlanError(
                f"{self._path} is not the plan that the manifest describes",
                received=f"{', '.join(sorted(found))}; {engine.num_optimization_profiles} profiles",
                expected=f"{', '.join(sorted(described))}; {len(self.profiles)} profiles",
                hint="build the plans again, with `inpaintrt build`",
            )

    def _load_weights(self, engine: ICudaEngineRtx) -> None:
        with self._host.library.listen() as reports:
            loaded = engine.load_weights(self._deferred)
        if not loaded:
            raise _refused(self._host.library, self._path, reports)
        self._resident = True

    def unload(self) -> None:
        """Free the weights; `prepare` brings them back. Nothing of this network is under way."""
        if self._deferred and self._engine is not None:
            cast("ICudaEngineRtx", self._engine).unload_weights()
            self._resident = False
        else:
            self._contexts.clear()
            self._engine = None

    def bind(self, shapes: Shapes, addresses: Mapping[str, int]) -> Callable[[], None]:
        """Set up the context of a profile; the result enqueues it on the device's stream.

        Raises:
            EngineRunError: The library refuses.
        """
        index = list(self.profiles).index(dict(shapes))
        stream = self._host.device.stream
        scratch = self._host.scratch
        with self._host.library.listen() as reports:
            context = self._context(index, reports)
            context.set_device_memory(scratch.address, scratch.nbytes)
            accepted = [context.set_input_shape(name, shape) for name, shape in shapes.items()]
            accepted += [context.set_tensor_address(name, address) for name, address in addresses.items()]
            missing = list(context.infer_shapes())
        if missing or not all(accepted):
            raise _failed(self._host.library, f"cannot bind {', '.join(missing) or self._path.name}", reports)

        runs = itertools.count()

        def enqueue() -> None:  # looks the context up, lest it outlive `unload`
            with self._host.library.listen() as reports:
                started = self._contexts[index].execute_async_v3(stream)
            if not started:
                raise _failed(self._host.library, f"failed to run {self._path.name}", reports)
            if next(runs) == 1:
                self._cache.save()  # the first run has finished the profile's kernels

        return enqueue

    def _context(self, index: int, reports: Reports) -> IExecutionContext:
        if index not in self._contexts:
            if self._engine is None:
                raise EngineRunError("the plan is not loaded", received=str(self._path))
            context = self._engine.create_execution_context(self._runtime_config(self._engine))
            if context is None or not context.set_optimization_profile_async(index, self._host.device.stream):
                raise _failed(self._host.library, f"cannot prepare {self._path.name}", reports)
            self._contexts[index] = context
        return self._contexts[index]

    def _runtime_config(self, engine: ICudaEngine) -> IRuntimeConfig:
        module = self._host.library.module
        config = engine.create_runtime_config()
        config.set_execution_context_allocation_strategy(
            module.ExecutionContextAllocationStrategy.USER_MANAGED
        )
        if self._host.library.has_runtime_cache:
            rtx = cast("IRuntimeConfigRtx", config)
            rtx.cuda_graph_strategy = module.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
            rtx.dynamic_shapes_kernel_specialization_strategy = (
                module.DynamicShapesKernelSpecializationStrategy.EAGER
            )
            self._cache.attach(rtx)
        return config

    def close(self) -> None:
        """Keep the finished kernels, and release plan and contexts."""
        self._cache.save()
        self._contexts.clear()
        self._engine = None
        if self._host.resident is self:
            self._host.resident = None


def check_plan(library: PlanLibrary, runtime: Runtime, content: bytes, path: Path) -> None:
    """Ask the library, where it can tell, whether a plan fits this library, GPU and driver.

    Raises:
        PlanError: It does not; the message says in what.
    """
    if not hasattr(runtime, "get_engine_validity"):
        return
    rtx, module = cast("RuntimeRtx", runtime), library.module
    with library.listen() as reports:
        validity, diagnostics = rtx.get_engine_validity(content[: rtx.engine_header_size])
    if validity == module.EngineValidity.INVALID:
        names = _diagnostics(library, diagnostics)
        raise PlanError(
            f"{library.backend} {library.version} cannot run {path}",
            received=f"{', '.join(names) or 'an invalid plan'}: {reports}",
            expected=f"a plan built by {library.backend} {library.version} for this GPU",
            hint=f"build it again: inpaintrt build {path.parents[2]} --backend {library.backend}",
        )
    if validity == module.EngineValidity.SUBOPTIMAL:
        _LOG.warning("%s runs, but a plan built for this GPU would be faster", path)


def _diagnostics(library: PlanLibrary, bits: int) -> list[str]:
    members: Mapping[str, Any] = library.module.EngineInvalidityDiagnostics.__members__
    return [name.lower().replace("_", " ") for name, member in members.items() if int(member) & bits]


def _refused(library: PlanLibrary, path: Path, reports: Reports) -> EngineError:
    if _ran_out(reports):
        return _out_of_memory(f"loading {path.name}", reports)
    return PlanError(
        f"{library.backend} {library.version} cannot load {path}",
        received=str(reports),
        hint=f"build it again: inpaintrt build {path.parents[2]} --backend {library.backend}",
    )


def _failed(library: PlanLibrary, what: str, reports: Reports) -> EngineRunError:
    if _ran_out(reports):
        return _out_of_memory(what, reports)
    return EngineRunError(f"{library.backend} {library.version} {what}", received=str(reports))


def _ran_out(reports: Reports) -> bool:
    text = str(reports).lower()
    return any(phrase in text for phrase in _OUT_OF_MEMORY)


def _out_of_memory(doing: str, reports: Reports) -> EngineMemoryError:
    return EngineMemoryError(
        f"the GPU ran out of memory: {doing}",
        received=str(reports),
        hint="pass low_vram=True, or build plans for a smaller batch or size",
    )


def open_engines(
    backend: str,
    folder: Path,
    manifest: Manifest,
    options: Mapping[str, Any],
    loras: Sequence[Lora] = (),
) -> dict[str, DeviceEngine]:
    """Load the plans of a bundle; with LoRAs, those that were built with the same.

    The options are `device`, the GPU's number, and `low_vram`, which keeps the weights of one component at a
    time on the GPU.

    Raises:
        ParameterError: An option is unknown or out of range.
        LoraMismatchError: A LoRA changes a component that the checkpoint does not have.
        EngineUnavailableError: The library or the GPU is not there.
        PlanError: The bundle has no plan that both can run.
        EngineMemoryError: The GPU has too little memory.
    """
    check_options(backend, options, _OPTIONS)
    check_components(loras, list(manifest.exported))
    library = load_library("tensorrt" if backend == "tensorrt" else "tensorrt-rtx")
    device = CudaDevice(integer(options, "device", 0, minimum=0))
    plans = choose_builds(
        manifest,
        backend,
        library=library.version,
        target=device.gpu.target,
        loras={name: describe_loras(loras, name) for name in manifest.exported},
    )
    runtime: Runtime = library.module.Runtime(library.logger)
    low_vram = flag(options, "low_vram", default=False)
    with device.use():
        host = PlanHost(library, runtime, device, GrowingMemory(device), low_vram)
        staging = Staging(device)
        environment = f"{library.version}-{device.gpu.name}-{driver_version()}"
        networks = {
            name: PlanNetwork(plan, folder / plan.file, host, KernelCache(plan.key, environment))
            for name, plan in plans.items()
        }
        for network in networks.values():
            network.prepare()
    return {name: DeviceEngine(network, device, staging) for name, network in networks.items()}
