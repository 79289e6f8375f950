"""PyTorch module to ONNX file."""

from __future__ import annotations

import contextlib
import gc
import logging
import warnings
from typing import TYPE_CHECKING, cast

import onnx
import torch
from torch.export import Dim
from torch.onnx import OnnxExporterError

from inpaintrt.errors import ExportError
from inpaintrt_export.initializers import check_places, find_candidates

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    import onnx_ir as ir
    from torch.export import ExportedProgram
    from torch.onnx import ONNXProgram

    from inpaintrt.bundle import TensorSpec
    from inpaintrt_export.initializers import WeightPlaces
    from inpaintrt_export.networks import Network, Sizes

__all__ = ["OPSET", "clean_graph", "example_inputs", "save_graph", "trace"]

OPSET = 18  # what every engine library reads; newer attention operators do not build everywhere
EMBEDDED_WEIGHTS_LIMIT = 2**20  # bytes: above it, weights lie beside the graph, where variants share them

_TORCH_DTYPES = {"float16": torch.float16, "float32": torch.float32, "int64": torch.int64}


def example_inputs(network: Network, sizes: Sizes, generator: torch.Generator) -> dict[str, torch.Tensor]:
    """Random inputs of a network: Gaussian, or for an input of whole numbers uniform below its limit.

    Args:
        network: Whose inputs.
        sizes: Size of every named axis.
        generator: Where the numbers come from.
    """
    examples = {}
    for name, spec in network.inputs.items():
        shape = [sizes[axis] if isinstance(axis, str) else axis for axis in spec.shape]
        limit = network.limits.get(name)
        if limit is None:
            values = torch.randn(shape, generator=generator)
        else:
            highest = sizes[limit] if isinstance(limit, str) else limit
            values = torch.randint(highest, shape, generator=generator)
        examples[name] = values.to(_TORCH_DTYPES[spec.dtype])
    return examples


def trace(network: Network, path: Path) -> WeightPlaces:
    """Write a network as an ONNX file of opset 18 with dynamic axes.

    Weights of more than 1 MB in all lie beside it in a file of the same name with `.data` appended.

    Returns:
        Where the graph holds the parameters of `network.module`, by their names there.

    Raises:
        ExportError: PyTorch cannot trace the network.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _quiet_exporter(), _no_garbage_collection(), torch.inference_mode():
        try:
            places = _convert(network, _capture(network), path)
        except (_CaptureError, OnnxExporterError) as error:
            raise ExportError(
                f"PyTorch {torch.__version__} cannot trace the {path.parent.name}",
                received=str(error).strip(),
                hint="report this checkpoint's configuration",
            ) from error
    model = onnx.load(path, load_external_data=False)
    clean_graph(model.graph)
    _name_axes(model.graph, {**network.inputs, **network.outputs})
    save_graph(model, path)
    return places


class _CaptureError(Exception):
    """torch.export cannot follow a module; its own errors have no class in common."""


def _capture(network: Network) -> ExportedProgram:
    """Trace a module, with guards on the sizes of its inputs.

    torch.onnx.export asks for assertions instead of guards. Writing those of diffusers' upsampling, which
    divides sizes, fails, and it traces the UNet again in strict mode, which takes twice as long in all.
    """
    inputs = example_inputs(network, network.traced_sizes, torch.Generator().manual_seed(0))
    shapes = {name: _dynamic_axes(spec) for name, spec in network.inputs.items()}
    try:
        return torch.export.export(network.module, (), kwargs=inputs, dynamic_shapes=shapes, strict=False)
    except Exception as error:
        raise _CaptureError(str(error)) from error


def _convert(network: Network, captured: ExportedProgram, path: Path) -> WeightPlaces:
    converted = torch.onnx.export(
        captured,
        dynamo=True,
        opset_version=OPSET,
        input_names=list(network.inputs),
        output_names=list(network.outputs),
        optimize=False,
        verbose=False,
    )
    program = cast("ONNXProgram", converted)  # it is None with the older exporter alone
    candidates = find_candidates(program, network.module)
    traced = list(program.model.graph.initializers.values())
    program.optimize()
    places = check_places(program.model.graph, network.module, candidates)
    program.save(path, external_data=_weight_bytes(network.module) > EMBEDDED_WEIGHTS_LIMIT)
    _forget_constants([*traced, *program.model.graph.initializers.values()])
    return places


def _forget_constants(initializers: Iterable[ir.Value]) -> None:
    """Free the constants of a graph, those that optimization replaced included.

    onnxscript's rewriting rules keep the last graph, and with it a copy of all matrices.
    """
    for value in initializers:
        value.const_value = None


def _dynamic_axes(spec: TensorSpec) -> dict[int, object]:
    return {index: Dim.DYNAMIC for index, axis in enumerate(spec.shape) if isinstance(axis, str)}


def _weight_bytes(module: torch.nn.Module) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in module.state_dict().values())


@contextlib.contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Silence what the exporter says of itself: it concerns neither the model nor the user."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.utils._sympy")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


@contextlib.contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Look for no cycles among the many objects of a trace, which takes a fifth of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def clean_graph(graph: onnx.GraphProto) -> None:
    """Remove in place what only describes: stack traces on every node, and inferred shapes.

    Inferred shapes that disagree with an engine's own inference make some tools refuse the file.
    """
    del graph.value_info[:]
    for entry in (*graph.node, *graph.initializer, *graph.input, *graph.output):
        entry.ClearField("metadata_props")
        entry.ClearField("doc_string")


def _name_axes(graph: onnx.GraphProto, specs: Mapping[str, TensorSpec]) -> None:
    for value in (*graph.input, *graph.output):
        for dimension, axis in zip(value.type.tensor_type.shape.dim, specs[value.name].shape, strict=True):
            if isinstance(axis, str):
                dimension.dim_param = axis


def save_graph(model: onnx.ModelProto, path: Path) -> None:
    """Write a model whose external weights, if any, stay where they are."""
    path.write_bytes(model.SerializeToString())
