"""Engines on ONNX Runtime's CUDA provider, bound to buffers of our own."""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import onnxruntime

from inpaintrt.backends.cuda import CudaDevice
from inpaintrt.backends.device import Device, Staging
from inpaintrt.backends.device_engine import DeviceEngine
from inpaintrt.backends.engine import check_names
from inpaintrt.backends.onnxruntime import FAILURES, open_session, tensor_names
from inpaintrt.backends.options import check_options, flag, integer
from inpaintrt.backends.shapes import Shapes, axis_sizes, resolve, row_buckets
from inpaintrt.bundle import Build, Manifest, choose_builds
from inpaintrt.errors import EngineInputError, EngineRunError, EngineUnavailableError, ParameterError
from inpaintrt.lora import Lora, Weights, changed_weights

__all__ = [
    "OrtNetwork",
    "check_placement",
    "check_start",
    "open_engines",
    "provider_options",
]

_log = logging.getLogger(__name__)

_CUDA = "CUDAExecutionProvider"
_BACKEND = "onnxruntime-cuda"
_OPTIONS = ("device", "max_rows", "cuda_graph", "variants", "prefer_nhwc")
# In the order in which they need each other; cuDNN is loaded last, by file name.
_CUDA_LIBRARIES = ("cudart", "nvrtc", "cublasLt", "cublas", "curand", "cufft")
_CUDNN = "cudnn/lib/libcudnn.so.9"
# ONNX Runtime keeps cuBLAS and cuDNN handles and recorded CUDA graphs for each thread that calls it, and
# releases none of them while graphs are on: all calls of the process come from this one.
_THREAD = ThreadPoolExecutor(1, thread_name_prefix="inpaintrt-onnxruntime-cuda")
# Errors are raised; printed as well, they would be lines of their own between those of a log.
_FATAL_ONLY = 4
_MAX_NAMES = 5
# What ONNX Runtime computes on the CPU by choice even for a GPU: arithmetic on shapes.
_ON_SHAPES = frozenset(
    (
        *("Add", "Cast", "Concat", "Constant", "ConstantOfShape", "Div", "Equal", "Expand", "Gather", "Mul"),
        *("Range", "Reshape", "Shape", "Size", "Slice", "Squeeze", "Sub", "Unsqueeze", "Where"),
    )
)


def check_placement(nodes: Sequence[tuple[str, str, str]], provider: str) -> None:
    """Check that a provider runs every node that computes.

    Args:
        nodes: Provider, operator and name of each node.
        provider: The provider that was asked for.

    Raises:
        EngineUnavailableError: A node fell to another one; the message names it.
    """
    strays = [
        f"{name or 'a node without a name'} ({operator}) on {place}"
        for place, operator, name in nodes
        if place != provider and operator not in _ON_SHAPES
    ]
    if strays:
        more = f" and {len(strays) - _MAX_NAMES} more" if len(strays) > _MAX_NAMES else ""
        raise EngineUnavailableError(
            f"ONNX Runtime {onnxruntime.__version__} does not run the whole network on {provider}",
            received=", ".join(strays[:_MAX_NAMES]) + more,
            expected=f"every node on {provider}",
            hint="upgrade onnxruntime-gpu, or export the checkpoint with --precision fp16",
        )


class OrtNetwork:
    """A network in an ONNX Runtime session.

    Args:
        path: The ONNX file.
        build: Its description in the manifest.
        device: Where the buffers are.
        provider: ONNX Runtime's name of the execution provider.
        provider_options: Its options.
        row_buckets: Numbers of rows that a step is padded to, so that few graphs are recorded.
        device_index: The device's number in the provider.
        weights: Values in the place of those in the file.

    Raises:
        EngineUnavailableError: ONNX Runtime cannot load the file, or runs a part of it elsewhere.
    """

    records = False  # the provider records by itself
    profiles: Sequence[Shapes] = ()

    def __init__(
        self,
        path: Path,
        build: Build,
        device: Device,
        *,
        provider: str,
        provider_options: Mapping[str, str],
        row_buckets: Sequence[int],
        device_index: int = 0,
        weights: Weights | None = None,
    ) -> None:
        self.inputs, self.outputs = build.inputs, build.outputs
        self._device = device
        self._row_buckets = row_buckets
        self._place = ("cuda" if provider == _CUDA else "cpu", device_index)
        self._graphs = 0
        self._weights = weights or {}  # the session refers to them
        settings = onnxruntime.SessionOptions()
        settings.log_severity_level = _FATAL_ONLY
        settings.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        self._session: Any = open_session(path, settings, [(provider, dict(provider_options))], self._weights)
        _check_started(self._session, provider)
        check_names(tensor_names(self._session), path, build)
        check_placement(
            [
                (part.ep_name, node.op_type, node.name)
                for part in self._session.get_provider_graph_assignment_info()
                for node in part.get_nodes()
            ],
            provider,
        )

    def fit(self, shapes: Shapes) -> Shapes:
        """Rows up to the next bucket; all other sizes as they are."""
        return {
            name: tuple(
                self._bucket(size) if axis == "rows" else size
                for axis, size in zip(self.inputs[name].shape, shape, strict=True)
            )
            for name, shape in shapes.items()
        }

    def _bucket(self, rows: int) -> int:
        for bucket in self._row_buckets:
            if rows <= bucket:
                return bucket
        raise EngineInputError(
            "the step has more rows than the backend was opened for",
            received=f"{rows} rows",
            expected=f"at most {self._row_buckets[-1]}",
            hint="ask for fewer images at once, or pass a larger max_rows",
        )

    def prepare(self) -> int:
        """The session is always on the device."""
        return 0

    def bind(self, shapes: Shapes, addresses: Mapping[str, int]) -> Callable[[], None]:
        """Bind all tensors; each binding has a recorded graph of its own in the provider."""
        binding = self._session.io_binding()
        for name, shape in shapes.items():
            dtype = self.inputs[name].dtype
            binding.bind_input(name, *self._place, dtype, shape, addresses[name])
        for name, shape in self._output_shapes(shapes).items():
            dtype = self.outputs[name].dtype
            binding.bind_output(name, *self._place, dtype, shape, addresses[name])
        self._graphs += 1
        options = onnxruntime.RunOptions()
        options.add_run_config_entry("gpu_graph_id", str(self._graphs))
        options.add_run_config_entry("disable_synchronize_execution_providers", "1")

        def enqueue() -> None:
            try:
                _THREAD.submit(self._session.run_with_iobinding, binding, options).result()
            except FAILURES as error:
                raise EngineRunError(
                    f"ONNX Runtime {onnxruntime.__version__} failed while running",
                    received=str(error).strip(),
                ) from error

        return enqueue

    def _output_shapes(self, shapes: Shapes) -> Shapes:
        sizes = axis_sizes(self.inputs, shapes)
        return {name: resolve(spec, sizes) for name, spec in self.outputs.items()}

    def close(self) -> None:
        """Release the session."""
        self._session = None


def provider_options(
    device: int, stream: int, *, cuda_graph: bool, prefer_nhwc: bool = False
) -> dict[str, str]:
    """Options of the CUDA provider.

    Memory is allocated as it is needed rather than in doubling blocks.

    Args:
        device: The GPU's number.
        stream: Address of the stream that everything is launched on.
        cuda_graph: Record launches, and replay them.
        prefer_nhwc: Run convolutions channels-last, which is the layout of tensor cores.
    """
    return {
        "device_id": str(device),
        "user_compute_stream": str(stream),
        "enable_cuda_graph": str(int(cuda_graph)),
        "arena_extend_strategy": "kSameAsRequested",
        "prefer_nhwc": str(int(prefer_nhwc)),
    }


def open_engines(
    backend: str,
    folder: Path,
    manifest: Manifest,
    options: Mapping[str, Any],
    loras: Sequence[Lora] = (),
) -> dict[str, DeviceEngine]:
    """Load the components of a bundle, in their variants for this backend where there are any.

    The options are `device`, the GPU's number; `max_rows`, the largest number of UNet rows in a step;
    `cuda_graph`, whether launches are recorded; `prefer_nhwc`, whether convolutions run channels-last; and
    `variants`, whether variants are taken.

    Raises:
        ParameterError: An option is unknown or out of range.
        LoraError: A LoRA cannot be applied.
        EngineUnavailableError: onnxruntime-gpu or the GPU is not there, or it cannot run a component.
    """
    check_options(backend, options, _OPTIONS)
    cuda_graph = flag(options, "cuda_graph", default=True)
    prefer_nhwc = flag(options, "prefer_nhwc", default=False)
    _check_layout(cuda_graph=cuda_graph, prefer_nhwc=prefer_nhwc)
    _check_provider()
    builds = choose_builds(manifest, _BACKEND, exported_only=not flag(options, "variants", default=True))
    device = CudaDevice(integer(options, "device", 0, minimum=0))
    _load_cuda_libraries()
    max_rows = integer(options, "max_rows", 16, minimum=1)
    settings = provider_options(
        device.gpu.index, device.stream, cuda_graph=cuda_graph, prefer_nhwc=prefer_nhwc
    )
    weights = changed_weights(folder, manifest, builds, loras)
    engines = {}
    with device.use():
        staging = Staging(device)
        for name, build in builds.items():
            _log.info("%s: %s", name, build.file)
            network = OrtNetwork(
                folder / build.file,
                build,
                device,
                provider=_CUDA,
                provider_options=settings,
                row_buckets=row_buckets(max_rows),
                device_index=device.gpu.index,
                weights=weights.get(name),
            )
            engines[name] = DeviceEngine(network, device, staging)
    return engines


def check_start(path: Path, device: int = 0) -> None:
    """Check that the CUDA provider starts, by loading a network into it.

    Args:
        path: An ONNX file, the smaller the better.
        device: The GPU's number.

    Raises:
        EngineUnavailableError: This ONNX Runtime has no such provider, or CUDA's libraries are missing.
    """
    _check_provider()
    _load_cuda_libraries()
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = _FATAL_ONLY
    _check_started(open_session(path, settings, [(_CUDA, {"device_id": str(device)})]), _CUDA)


def _check_layout(*, cuda_graph: bool, prefer_nhwc: bool) -> None:
    """With channels-last convolutions ONNX Runtime computes shapes on the GPU and copies them back."""
    if cuda_graph and prefer_nhwc:
        raise ParameterError(
            "ONNX Runtime records no CUDA graph of a network that runs channels-last",
            received="prefer_nhwc=True, cuda_graph=True",
            expected="one of the two",
            hint="pass cuda_graph=False as well",
        )


def _load_cuda_libraries() -> None:
    """Load CUDA's libraries and cuDNN from wherever they were installed.

    ONNX Runtime looks for them in its own site-packages folder and on the loader's path only, and so misses
    those of a second one (`pip install --target`, or a virtual environment on top of another).
    """
    pathfinder = importlib.import_module("cuda.pathfinder")
    for name in _CUDA_LIBRARIES:
        with contextlib.suppress(pathfinder.DynamicLibNotFoundError):
            pathfinder.load_nvidia_dynamic_lib(name)
    for folder in _nvidia_packages():
        if (folder / _CUDNN).is_file():
            ctypes.CDLL(str(folder / _CUDNN))
            break
    onnxruntime.preload_dlls()


def _nvidia_packages() -> list[Path]:
    """The folders `nvidia` of all site-packages folders."""
    try:
        return [Path(folder) for folder in importlib.import_module("nvidia").__path__]
    except ImportError:
        return []


def _check_started(session: onnxruntime.InferenceSession, provider: str) -> None:
    """Where CUDA's libraries are missing, ONNX Runtime logs it and goes on with the CPU."""
    if provider not in session.get_providers():
        raise EngineUnavailableError(
            f"ONNX Runtime {onnxruntime.__version__} cannot start its {provider}",
            received=", ".join(session.get_providers()),
            expected=f"{provider}, which needs cuDNN and CUDA's libraries in the versions it was built with",
            hint="pip install 'inpaintrt[cuda]', and see what ONNX Runtime wrote to the log",
        )


def _check_provider() -> None:
    available = onnxruntime.get_available_providers()
    if _CUDA not in available:
        raise EngineUnavailableError(
            "this ONNX Runtime has no CUDA provider",
            received=", ".join(available),
            expected=_CUDA,
            hint="pip uninstall onnxruntime, then pip install 'inpaintrt[cuda]'; never both",
        )
