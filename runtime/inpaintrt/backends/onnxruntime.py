"""Engines on ONNX Runtime's CPU provider: they work everywhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from inpaintrt.backends.engine import Array, check_inputs
from inpaintrt.backends.options import check_options
from inpaintrt.bundle import Component, TensorSpec
from inpaintrt.errors import EngineRunError, EngineUnavailableError, ParameterError

try:
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as _state
except ImportError as error:
    raise EngineUnavailableError(
        "the backend 'onnxruntime' needs ONNX Runtime, which is not installed",
        received=str(error),
        hint="pip install 'inpaintrt[cpu]' (or 'inpaintrt[cuda]' for NVIDIA GPUs; never both)",
    ) from error

__all__ = ["FAILURES", "OnnxRuntimeEngine", "check_names", "open_engine", "open_session"]

_OPTIONS = ("threads",)
_ERRORS_ONLY = 3
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
        component: Its description in the manifest.
        threads: Threads that share one operator; None for one a physical core.

    Raises:
        EngineUnavailableError: ONNX Runtime cannot load the file, or it has other inputs or outputs.
    """

    def __init__(self, path: Path, component: Component, *, threads: int | None = None) -> None:
        self._component = component
        settings = onnxruntime.SessionOptions()
        settings.log_severity_level = _ERRORS_ONLY
        if threads is not None:
            settings.intra_op_num_threads = threads
        self._session: Any = open_session(path, settings, ["CPUExecutionProvider"])
        check_names(self._session, path, component)
        self._output_names = list(component.outputs)

    @property
    def inputs(self) -> Mapping[str, TensorSpec]:
        """Inputs by name."""
        return self._component.inputs

    @property
    def outputs(self) -> Mapping[str, TensorSpec]:
        """Outputs by name."""
        return self._component.outputs

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run the network once.

        Raises:
            EngineInputError: The inputs do not fit.
            EngineRunError: ONNX Runtime failed, or the engine is closed.
        """
        check_inputs(self._component.inputs, inputs)
        if self._session is None:
            raise EngineRunError("the engine is closed", hint="open the bundle again")
        try:
            outputs = self._session.run(self._output_names, dict(inputs))
        except FAILURES as error:
            raise EngineRunError(
                f"ONNX Runtime {onnxruntime.__version__} failed while running", received=str(error).strip()
            ) from error
        return dict(zip(self._output_names, outputs, strict=True))

    def close(self) -> None:
        """Release the session."""
        self._session = None


def open_session(
    path: Path, settings: onnxruntime.SessionOptions, providers: Sequence[object]
) -> onnxruntime.InferenceSession:
    """Load an ONNX file.

    Raises:
        EngineUnavailableError: ONNX Runtime cannot.
    """
    try:
        return onnxruntime.InferenceSession(str(path), settings, providers=providers)
    except FAILURES as error:
        raise EngineUnavailableError(
            f"ONNX Runtime {onnxruntime.__version__} cannot load {path}",
            received=str(error).strip(),
            hint="export the checkpoint again, or upgrade onnxruntime",
        ) from error


def check_names(session: onnxruntime.InferenceSession, path: Path, component: Component) -> None:
    """Check that a session has the inputs and outputs that the manifest describes.

    Raises:
        EngineUnavailableError: It has others.
    """
    found = {tensor.name for tensor in [*session.get_inputs(), *session.get_outputs()]}
    described = {*component.inputs, *component.outputs}
    if found != described:
        raise EngineUnavailableError(
            f"{path} is not the network that the manifest describes",
            received=", ".join(sorted(found)),
            expected=", ".join(sorted(described)),
            hint="export the checkpoint again",
        )


def open_engine(folder: Path, component: Component, options: Mapping[str, Any]) -> OnnxRuntimeEngine:
    """Load one component; the only option is `threads`, a positive integer.

    Raises:
        ParameterError: An option is unknown, or not a positive integer.
        EngineUnavailableError: ONNX Runtime cannot load the component.
    """
    check_options("onnxruntime", options, _OPTIONS)
    threads = options.get("threads")
    if threads is not None and (isinstance(threads, bool) or not isinstance(threads, int) or threads < 1):
        raise ParameterError(
            "the number of threads is not a positive integer",
            received=repr(threads),
            expected="an integer from 1, or None for one a physical core",
        )
    return OnnxRuntimeEngine(folder / component.file, component, threads=threads)
