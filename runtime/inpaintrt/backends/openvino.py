"""Engines on OpenVINO, for CPUs; it has drivers for GPUs and NPUs of Intel, too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

from inpaintrt.backends.engine import Array, check_inputs, check_names
from inpaintrt.backends.openvino_graphs import merge_upsampling, rewrite_group_norms
from inpaintrt.backends.openvino_library import openvino, opset13
from inpaintrt.backends.options import check_options, integer
from inpaintrt.backends.threads import threads_option
from inpaintrt.bundle import Activations, Build, Manifest, TensorSpec
from inpaintrt.errors import EngineRunError, EngineUnavailableError, ParameterError
from inpaintrt.lora import Lora, Weights, changed_weights
from inpaintrt.lru import LruCache
from inpaintrt.validation import checked

__all__ = ["OpenVinoEngine", "describe_devices", "open_engine", "open_engines"]

_OPTIONS = ("cache", "device", "kept_shapes", "precision", "threads")
_KEPT_SHAPES = 4
_PRECISIONS = {"fp32": ("f32", "FP32"), "fp16": ("f16", "FP16"), "bf16": ("bf16", "BF16")}
"""The words of OpenVINO: for the hint, and among what a device can do."""

_Shapes = tuple[tuple[str, tuple[int, ...]], ...]


class _Compiled:
    """A network for inputs of fixed shapes, and requests that do nothing at the moment."""

    def __init__(self, model: openvino.CompiledModel) -> None:
        self._model = model
        self._idle = [model.create_infer_request()]

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> dict[str, Array]:
        try:
            request = self._idle.pop()
        except IndexError:  # other threads have them all
            request = self._model.create_infer_request()
        try:
            results = request.infer(dict(inputs), share_inputs=True)
            return {name: results[name] for name in outputs}
        finally:
            self._idle.append(request)


class OpenVinoEngine:
    """A network in OpenVINO, compiled for each set of shapes that comes: fixed shapes run faster.

    Args:
        path: The ONNX file.
        build: Its description in the manifest.
        core: OpenVINO with its devices.
        device: One of them.
        settings: How to compile for it.
        kept_shapes: Compiled networks that are kept, each with its own weights; the least recently used
            leave first.
        rewrites: Whether graphs are rewritten for the kernels of CPUs.
        weights: Values in the place of those in the file.

    Raises:
        EngineUnavailableError: OpenVINO cannot read the file, or it has other inputs or outputs.
    """

    def __init__(
        self,
        path: Path,
        build: Build,
        *,
        core: openvino.Core,
        device: str,
        settings: Mapping[str, object],
        kept_shapes: int = _KEPT_SHAPES,
        rewrites: bool = False,
        weights: Weights | None = None,
    ) -> None:
        self._build = build
        self._core, self._device, self._settings, self._rewrites = core, device, settings, rewrites
        self._compiled = LruCache[_Shapes, _Compiled](kept_shapes)
        self._model: Any = _read(core, path, build)
        if weights:
            _replace_weights(self._model, weights)
        if rewrites:
            merge_upsampling(self._model)

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
        """Not measured: figures in the manifest are those of ONNX Runtime."""
        return None

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run the network once; shapes that are new are compiled for first.

        Raises:
            EngineInputError: The inputs do not fit.
            EngineRunError: OpenVINO failed, or the engine is closed.
        """
        check_inputs(self._build.inputs, inputs)
        model = self._model
        if model is None:
            raise EngineRunError("the engine is closed", hint="open the bundle again")
        shapes = tuple((name, array.shape) for name, array in inputs.items())
        try:
            compiled, _ = self._compiled.get(shapes, partial(self._compile, model, shapes))
            return compiled.run(inputs, list(self._build.outputs))
        except RuntimeError as error:
            raise EngineRunError(
                f"OpenVINO {openvino.__version__} failed while running", received=str(error).strip()
            ) from error

    def _compile(self, model: openvino.Model, shapes: _Shapes) -> _Compiled:
        fixed = model.clone()
        fixed.reshape({name: openvino.PartialShape(list(shape)) for name, shape in shapes})
        if self._rewrites:
            rewrite_group_norms(fixed)
        return _Compiled(self._core.compile_model(fixed, self._device, dict(self._settings)))

    def close(self) -> None:
        """Release the network."""
        self._model = None
        self._compiled = LruCache(0)


def _read(core: openvino.Core, path: Path, build: Build) -> openvino.Model:
    try:
        model = core.read_model(path)
    except RuntimeError as error:
        raise EngineUnavailableError(
            f"OpenVINO {openvino.__version__} cannot load {path}",
            received=str(error).strip(),
            hint="export the checkpoint again, or upgrade openvino",
        ) from error
    check_names({port.any_name for port in [*model.inputs, *model.outputs]}, path, build)
    return model


def _replace_weights(model: openvino.Model, weights: Weights) -> None:
    """Put other values into the constants that the ONNX initializers have become."""
    constants = {
        node.get_friendly_name(): node for node in model.get_ops() if node.get_type_name() == "Constant"
    }
    absent = sorted(weights.keys() - constants.keys())
    if absent:
        raise EngineUnavailableError(
            "OpenVINO keeps these weights under other names, so that a LoRA cannot change them",
            received=", ".join(absent),
            hint="use the backend 'onnxruntime', or apply the LoRA at export",
        )
    for name, values in weights.items():
        constants[name].output(0).replace(opset13.constant(values).output(0))


def open_engine(folder: Path, build: Build, options: Mapping[str, Any]) -> OpenVinoEngine:
    """Load one component; options are those of `open_engines`.

    Raises:
        ParameterError: An option is unknown or out of range.
        EngineUnavailableError: There is no such device, or OpenVINO cannot load the file.
    """
    return _opener("openvino", options)(folder / build.file, build)


def open_engines(
    backend: str,
    folder: Path,
    manifest: Manifest,
    options: Mapping[str, Any],
    loras: Sequence[Lora] = (),
) -> dict[str, OpenVinoEngine]:
    """Load the exported components of a bundle.

    The options are `threads`, how many share one operator (by default OMP_NUM_THREADS, or as OpenVINO
    decides); `device`, such as "CPU" (the default), "GPU.0" or "NPU"; `precision`, in which to compute:
    "fp32" (the default), or "bf16" or "fp16" where the device has it; `cache`, a folder for compiled
    networks; and `kept_shapes`, for how many sets of shapes a compiled network is kept.

    Raises:
        ParameterError: An option is unknown or out of range.
        LoraError: A LoRA cannot be applied.
        EngineUnavailableError: There is no such device, it does not compute in this precision, or OpenVINO
            cannot load a component.
    """
    opener = _opener(backend, options)
    weights = changed_weights(folder, manifest, manifest.exported, loras)
    return {
        name: opener(folder / build.file, build, weights=weights.get(name))
        for name, build in manifest.exported.items()
    }


def describe_devices() -> str:
    """The version and the devices, for `inpaintrt doctor`."""
    return f"openvino {openvino.__version__}, {', '.join(openvino.Core().available_devices)}"


def _opener(backend: str, options: Mapping[str, Any]) -> partial[OpenVinoEngine]:
    check_options(backend, options, _OPTIONS)
    core = openvino.Core()
    device = _device(core, options)
    settings = _settings(core, device, options)
    return partial(
        OpenVinoEngine,
        core=core,
        device=device,
        settings=settings,
        kept_shapes=integer(options, "kept_shapes", _KEPT_SHAPES, minimum=1),
        # In bfloat16 the sum of squares would lose too much, and no other device was tried.
        rewrites=device == "CPU" and settings["INFERENCE_PRECISION_HINT"] == "f32",
    )


def _device(core: openvino.Core, options: Mapping[str, Any]) -> str:
    device = _text(options, "device", "CPU")
    if device not in core.available_devices:
        raise EngineUnavailableError(
            "OpenVINO has no such device here", received=device, expected=", ".join(core.available_devices)
        )
    return device


def _settings(core: openvino.Core, device: str, options: Mapping[str, Any]) -> dict[str, object]:
    precision = _text(options, "precision", "fp32")
    if precision not in _PRECISIONS:
        raise ParameterError(
            "there is no such precision",
            received=precision,
            expected=", ".join(_PRECISIONS),
            parameter="precision",
        )
    hint, capability = _PRECISIONS[precision]
    capabilities = core.get_property(device, "OPTIMIZATION_CAPABILITIES")
    if capability not in capabilities:
        raise EngineUnavailableError(
            f"the device {device} does not compute in {precision}",
            received=f"what it has: {', '.join(capabilities)}",
            expected=" or ".join(name for name, words in _PRECISIONS.items() if words[1] in capabilities),
            hint="choose another precision, or another device",
        )
    # OpenVINO computes in bfloat16 or float16 by itself where a device has it.
    settings: dict[str, object] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": hint}
    if (threads := threads_option(options)) is not None:
        settings["INFERENCE_NUM_THREADS"] = threads
    if options.get("cache") is not None:
        settings["CACHE_DIR"] = _text(options, "cache", "")
    return settings


def _text(options: Mapping[str, Any], name: str, default: str) -> str:
    value = options.get(name)
    return default if value is None else cast("str", checked(name, value, str))
