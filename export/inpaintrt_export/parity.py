"""Does an exported component compute what PyTorch computes?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from inpaintrt.backends.threads import default_threads
from inpaintrt.bundle import Parity, number_format
from inpaintrt.errors import EngineUnavailableError, ParityError
from inpaintrt_export.tracing import example_inputs

try:
    import onnxruntime
except ImportError as error:
    raise EngineUnavailableError(
        "the export compares every network with PyTorch by ONNX Runtime, which is not installed",
        received=str(error),
        hint="pip install 'inpaintrt[export,cpu]' (or 'inpaintrt[export,cuda]'; never both)",
    ) from error

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from inpaintrt.bundle import Precision
    from inpaintrt_export.networks import Network, Sizes

__all__ = ["Reference", "compare", "compare_case", "evaluate", "measure", "open_session"]

_SEED = 20_240_229
_SMALLEST = 1e-30  # keeps the relative error of a reference that is all zero a number


@dataclass(frozen=True)
class Reference:
    """PyTorch's answer to one set of inputs: the first outputs of the graph, or all."""

    case: str
    inputs: dict[str, NDArray[np.generic]]
    outputs: tuple[NDArray[np.float32], ...]


def evaluate(network: Network, cases: Iterable[Sizes]) -> list[Reference]:
    """Run a float32 network in PyTorch on fresh random inputs of several sizes."""
    generator = torch.Generator().manual_seed(_SEED)
    return [_evaluate_case(network, sizes, generator) for sizes in cases]


def _evaluate_case(network: Network, sizes: Sizes, generator: torch.Generator) -> Reference:
    inputs = example_inputs(network, sizes, generator)
    with torch.inference_mode():
        output = network.module(**inputs)
    outputs = output if isinstance(output, tuple) else (output,)
    return Reference(
        case=" ".join(f"{axis}={size}" for axis, size in sizes.items()),
        inputs={name: value.numpy() for name, value in inputs.items()},
        outputs=tuple(each.float().numpy() for each in outputs),
    )


def compare(path: Path, references: Sequence[Reference], precision: Precision) -> tuple[Parity, ...]:
    """Run an ONNX file on ONNX Runtime's CPU provider and measure how far it is from PyTorch.

    Raises:
        ParityError: A relative error is above the tolerance of the precision.
    """
    session = open_session(path, sparing=precision != "fp32")
    results = tuple(compare_case(session, reference) for reference in references)
    for result in results:
        _check(path, result, precision)
    return results


def open_session(path: Path, *, sparing: bool = False) -> onnxruntime.InferenceSession:
    """An ONNX file on ONNX Runtime's CPU provider; `sparing` takes less memory where weights are halves."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = default_threads() or 0
    if sparing:
        # The CPU provider computes halves in float32. Optimisation would keep a float32 copy of all weights,
        # the default order makes one before the first operator runs (SDXL's UNet: 10 GB), and the arena keeps
        # what single operators took.
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.execution_order = onnxruntime.ExecutionOrder.PRIORITY_BASED
        options.enable_cpu_mem_arena = False
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def compare_case(session: onnxruntime.InferenceSession, reference: Reference) -> Parity:
    """Give a session a reference's inputs, and measure how far its outputs are from the reference's."""
    dtypes = {value.name: value.type for value in session.get_inputs()}
    inputs = {
        name: value.astype(np.float16) if dtypes[name] == "tensor(float16)" else value
        for name, value in reference.inputs.items()
    }
    outputs = session.run(None, inputs)[: len(reference.outputs)]
    measured = [measure(reference.case, *pair) for pair in zip(outputs, reference.outputs, strict=True)]
    # A NaN is the worst, and no number is larger than it.
    return max(measured, key=lambda each: (each.relative_error != each.relative_error, each.relative_error))


def measure(case: str, output: NDArray[np.floating], reference: NDArray[np.floating]) -> Parity:
    """Largest absolute, and relative, difference of two arrays of one shape."""
    if output.shape != reference.shape:
        raise ParityError(
            f"the exported graph gives another shape than PyTorch ({case})",
            received=output.shape,
            expected=reference.shape,
            hint="report this checkpoint's configuration",
        )
    expected = reference.astype(np.float64)
    difference = output.astype(np.float64) - expected
    norm = float(np.linalg.norm(expected))
    return Parity(
        case=case,
        max_absolute_error=float(np.abs(difference).max()),
        relative_error=float(np.linalg.norm(difference)) / max(norm, _SMALLEST),
    )


def _check(path: Path, result: Parity, precision: Precision) -> None:
    tolerance = number_format(precision).tolerance
    # A comparison with NaN is false: hence "not below" rather than "above".
    if not result.relative_error <= tolerance:
        raise ParityError(
            f"{path.parent.name} does not compute what PyTorch computes ({result.case})",
            received=f"relative error {result.relative_error:.2e}",
            expected=f"at most {tolerance:.0e} in {precision}",
            hint="report this checkpoint's configuration"
            if precision == "fp32"
            else "export with precision fp32",
        )
