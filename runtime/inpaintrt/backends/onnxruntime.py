"""Engines on ONNX Runtime's CPU provider: they work everywhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from inpaintrt.backends.engine import Array, check_inputs, check_names
from inpaintrt.backends.options import check_options, flag
from inpaintrt.backends.shapes import resolve
from inpaintrt.backends.threads import threads_option
from inpaintrt.bundle import SHALLOW_DENOISER, Activations, Build, Manifest, TensorSpec, choose_builds
from inpaintrt.errors import EngineInputError, EngineRunError, EngineUnavailableError
from inpaintrt.lora import Lora, Weights, changed_weights, read_initializers

try:
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as _state
except ImportError as error:
    raise EngineUnavailableError(
        "the backend 'onnxruntime' needs ONNX Runtime, which is not installed",
        received=str(error),
        hint="pip install 'inpaintrt[cpu]' (or 'inpaintrt[cuda]' for NVIDIA GPUs; never both)",
    ) from error

__all__ = [
    "FAILURES",
    "OnnxRuntimeEngine",
    "open_engine",
    "open_engines",
    "open_session",
    "tensor_names",
]

_BACKEND = "onnxruntime"
_OPTIONS = ("threads", "variants")
# Errors are raised; printed as well, they would be lines of their own between those of a log.
_FATAL_ONLY = 4
_WEIGHTS_FOLDER = "session.model_external_initializers_file_folder_path"
_SHRINK = ("memory.enable_memory_arena_shrinkage", "cpu:0")
_ROWS_KEPT, _IMAGES_KEPT = 8, 2
# The exceptions of the binding have no common base but Exception.
FAILURES = (
    _state.Fail,
    _state.InvalidArgument,
    _state.InvalidGraph,
    _state.InvalidProtobuf,
    _state.NoSuchFile,
    _state.NotImplemented,
    _state.RuntimeException,
    RuntimeError,
)


class OnnxRuntimeEngine:
    """A network in an ONNX Runtime session on the CPU.

    Args:
        path: The ONNX file.
        build: Its description in the manifest.
        threads: Threads that share one operator; None for one a physical core.
        kept_positions: Positions (rows or images times their height and width) up to which a run's memory is
            kept for the next run. A larger run gives its memory back to the system; None for none does.
        weights: Values in the place of those in the file.

    Raises:
        EngineUnavailableError: ONNX Runtime cannot load the file, or it has other inputs or outputs.
    """

    def __init__(
        self,
        path: Path,
        build: Build,
        *,
        threads: int | None = None,
        kept_positions: int | None = None,
        weights: Weights | None = None,
    ) -> None:
        self._build = build
        self._kept_positions = kept_positions if _can_resolve(build) else None
        self._shrinking = onnxruntime.RunOptions()
        self._shrinking.add_run_config_entry(*_SHRINK)
        settings = onnxruntime.SessionOptions()
        settings.log_severity_level = _FATAL_ONLY
        if threads is not None:
            settings.intra_op_num_threads = threads
        self._weights = weights or {}  # the session refers to them
        self._session: Any = open_session(path, settings, ["CPUExecutionProvider"], self._weights)
        check_names(tensor_names(self._session), path, build)
        self._output_names = list(build.outputs)

    @property
    def inputs(self) -> Mapping[str, TensorSpec]:
        """Inputs by name."""
        return self._build.inputs

    @property
    def outputs(self) -> Mapping[str, TensorSpec]:
        """Outputs by name."""
        return self._build.outputs

    @property
    def activations(self) -> Activations | None:
        """What a run takes beside the weights; None where that was not measured."""
        return self._build.activations

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run the network once.

        Raises:
            EngineInputError: The inputs do not fit.
            EngineRunError: ONNX Runtime failed, or the engine is closed.
        """
        sizes = check_inputs(self._build.inputs, inputs)
        if self._session is None:
            raise EngineRunError("the engine is closed", hint="open the bundle again")
        try:
            return self._run(inputs, sizes)
        except FAILURES as error:
            raise EngineRunError(
                f"ONNX Runtime {onnxruntime.__version__} failed while running", received=str(error).strip()
            ) from error

    def _run(self, inputs: Mapping[str, Array], sizes: Mapping[str, int]) -> dict[str, Array]:
        if self._kept_positions is not None and _positions(sizes) > self._kept_positions:
            return self._run_and_shrink(inputs, sizes)
        outputs = self._session.run(self._output_names, dict(inputs))
        return dict(zip(self._output_names, outputs, strict=True))

    def _run_and_shrink(self, inputs: Mapping[str, Array], sizes: Mapping[str, int]) -> dict[str, Array]:
        """The same, with outputs outside of the arena, which could not shrink below what they hold."""
        outputs = {
            name: np.empty(resolve(spec, sizes), spec.dtype) for name, spec in self._build.outputs.items()
        }
        binding = self._session.io_binding()
        arrays = {name: np.ascontiguousarray(array) for name, array in inputs.items()}
        for name, array in arrays.items():  # the binding does not keep them
            binding.bind_cpu_input(name, array)
        for name, output in outputs.items():
            binding.bind_output(name, "cpu", 0, output.dtype, output.shape, output.ctypes.data)
        self._session.run_with_iobinding(binding, self._shrinking)
        return outputs

    def close(self) -> None:
        """Release the session."""
        self._session = None


def _can_resolve(build: Build) -> bool:
    """Whether the outputs' shapes follow from those of the inputs; imported networks may have other names."""
    axes = {axis: 8 for spec in build.inputs.values() for axis in spec.shape if isinstance(axis, str)}
    try:
        return all(resolve(spec, axes) for spec in build.outputs.values())
    except EngineInputError:
        return False


def _positions(sizes: Mapping[str, int]) -> int:
    """Rows or images times their height and width; 0 for a network of texts."""
    count = sizes.get("rows", sizes.get("batch", 1))
    return count * sizes.get("height", 0) * sizes.get("width", 0)


def open_session(
    path: Path,
    settings: onnxruntime.SessionOptions,
    providers: Sequence[object],
    weights: Weights | None = None,
) -> onnxruntime.InferenceSession:
    """Load an ONNX file.

    Args:
        path: The file.
        settings: Options of the session; those that replace weights are added.
        providers: ONNX Runtime's execution providers.
        weights: Values in the place of those in the file, contiguous. They must live as long as the session.

    Raises:
        EngineUnavailableError: ONNX Runtime cannot.
    """
    try:
        model = _replace_weights(path, settings, weights) if weights else str(path)
        return onnxruntime.InferenceSession(model, settings, providers=providers)
    except FAILURES as error:
        raise EngineUnavailableError(
            f"ONNX Runtime {onnxruntime.__version__} cannot load {path}",
            received=str(error).strip(),
            hint="export the checkpoint again, or upgrade onnxruntime",
        ) from error


def _replace_weights(path: Path, settings: onnxruntime.SessionOptions, weights: Weights) -> bytes:
    """The graph with new values for the weights that lie in it; for others they are put into the settings.

    `SessionOptions.add_initializer` would do for both, but comes after the graph was optimised: where a 1 x 1
    convolution was fused with what follows, the old weight stayed without a word (ONNX Runtime 1.32).
    """
    initializers = read_initializers(path)
    content = bytearray(path.read_bytes())
    external = [name for name in weights if initializers[name].external]
    for name in weights.keys() - external:
        values = weights[name].tobytes()
        content[initializers[name].offset : initializers[name].offset + len(values)] = values
    values_outside = [onnxruntime.OrtValue.ortvalue_from_numpy(weights[name]) for name in external]
    settings.add_external_initializers(external, values_outside)
    settings.add_session_config_entry(_WEIGHTS_FOLDER, str(path.parent))
    return bytes(content)


def tensor_names(session: onnxruntime.InferenceSession) -> set[str]:
    """The names of a session's inputs and outputs."""
    return {tensor.name for tensor in [*session.get_inputs(), *session.get_outputs()]}


def open_engine(folder: Path, build: Build, options: Mapping[str, Any]) -> OnnxRuntimeEngine:
    """Load one component, which keeps the memory of its largest run; the only option is `threads`.

    Raises:
        ParameterError: An option is unknown, or not a positive integer.
        EngineUnavailableError: ONNX Runtime cannot load the file.
    """
    check_options(_BACKEND, options, _OPTIONS)
    return OnnxRuntimeEngine(folder / build.file, build, threads=threads_option(options))


def open_engines(
    backend: str,
    folder: Path,
    manifest: Manifest,
    options: Mapping[str, Any],
    loras: Sequence[Lora] = (),
) -> dict[str, OnnxRuntimeEngine]:
    """Load the components of a bundle, in their variants for this backend where there are any.

    The options are `threads`, how many share one operator (by default OMP_NUM_THREADS, or one a physical core
    as far as the process may use them), and `variants`, whether variants are taken.

    Raises:
        ParameterError: An option is unknown or out of range.
        LoraError: A LoRA cannot be applied.
        EngineUnavailableError: ONNX Runtime cannot load a component.
    """
    check_options(backend, options, _OPTIONS)
    threads = threads_option(options)
    builds = choose_builds(manifest, _BACKEND, exported_only=not flag(options, "variants", default=True))
    weights = changed_weights(folder, manifest, builds, loras)
    return {
        name: OnnxRuntimeEngine(
            folder / build.file,
            build,
            threads=threads,
            kept_positions=_kept_positions(manifest, name),
            weights=weights.get(name),
        )
        for name, build in builds.items()
    }


def _kept_positions(manifest: Manifest, name: str) -> int:
    """A few times what a run at the checkpoint's native size has."""
    architecture = manifest.architecture
    height, width = architecture.native_resolution
    count = _ROWS_KEPT if name in ("denoiser", SHALLOW_DENOISER) else _IMAGES_KEPT
    pixels = count * height * width
    return pixels if name.endswith("vae_encoder") else pixels // architecture.vae_scale_factor**2
