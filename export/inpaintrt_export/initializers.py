"""Where a traced graph holds the parameters of a module, so that a LoRA can change them there.

The exporter keeps a parameter under its name, or folds it into a constant: the matrix of a linear layer is
transposed, gain and offset of a group normalisation get two axes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    import onnx_ir as ir
    from numpy.typing import NDArray
    from torch import nn
    from torch.onnx import ONNXProgram

__all__ = ["WeightPlaces", "check_places", "find_candidates"]

_KEEPING: Final = ("Cast", "CastLike", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze")

Candidates = Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class WeightPlaces:
    """The initializers of a module's parameters.

    Attributes:
        initializers: The initializer of each parameter that the graph holds as it is; empty for a parameter
            that the outputs do not depend on.
        transposed: The parameters whose initializer holds the transposed matrix.
        lost: Matrices and convolutions that the graph holds in no place, or in several.
    """

    initializers: Mapping[str, str]
    transposed: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()


def find_candidates(program: ONNXProgram, module: nn.Module) -> Candidates:
    """The tensors that hold a parameter's numbers in a graph that is not optimised yet, for each parameter.

    Returns:
        Their names; none for a parameter that nothing reads.
    """
    graph, unread = program.model.graph, _unread_parameters(program)
    aliases: defaultdict[int, list[str]] = defaultdict(list)
    for name, parameter in module.named_parameters(remove_duplicate=False):
        aliases[id(parameter)].append(name)
    candidates: dict[str, list[str]] = {}
    for names in aliases.values():
        name = next((name for name in names if name in graph.initializers), names[0])
        if name in graph.initializers and graph.initializers[name].uses():
            candidates[name] = [str(value.name) for value in _same_numbers(graph.initializers[name])]
        else:
            candidates[name] = [] if unread.issuperset(names) else [name]
    return candidates


def _unread_parameters(program: ONNXProgram) -> set[str]:
    exported = program.exported_program
    if exported is None:
        return set()
    names = exported.graph_signature.inputs_to_parameters
    read = {names[node.name] for node in exported.graph.nodes if node.name in names and node.users}
    return {name for name, _ in exported.named_parameters() if name not in read}


def _same_numbers(value: ir.Value) -> Iterator[ir.Value]:
    yield value
    for node in value.consumers():
        if node.op_type in _KEEPING and node.inputs[0] is value:
            yield from _same_numbers(node.outputs[0])


def check_places(graph: ir.Graph, module: nn.Module, candidates: Candidates) -> WeightPlaces:
    """Find out which of the candidates an optimised graph reads, and compare their values."""
    initializers: dict[str, str] = {}
    transposed: list[str] = []
    lost: list[str] = []
    parameters = dict(module.named_parameters(remove_duplicate=False))
    for name, names in candidates.items():
        weight: NDArray[np.generic] = parameters[name].detach().numpy()
        found = [value for value in map(graph.initializers.get, names) if value is not None and value.uses()]
        is_transposed = _is_transposed(found[0], weight) if len(found) == 1 else None
        if not names:
            initializers[name] = ""
        elif is_transposed is not None:
            initializers[name] = str(found[0].name)
            transposed += [name] if is_transposed else []
        elif weight.ndim > 1:
            lost.append(name)
    return WeightPlaces(initializers, tuple(transposed), tuple(lost))


def _is_transposed(value: ir.Value, weight: NDArray[np.generic]) -> bool | None:
    """Whether an initializer holds a weight transposed; None where it holds something else."""
    held: NDArray[np.generic] = value.const_value.numpy()
    if held.dtype != weight.dtype or held.size != weight.size:
        return None
    reshaped = held.ndim < 2 or weight.ndim != 2
    if np.array_equal(held.reshape(weight.shape) if reshaped else held, weight):
        return False
    return True if not reshaped and np.array_equal(held.T, weight) else None
