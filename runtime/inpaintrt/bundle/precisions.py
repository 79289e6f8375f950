"""What networks compute in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from inpaintrt.errors import ParameterError

__all__ = ["PRECISIONS", "NumberFormat", "Precision", "number_format"]

Precision: TypeAlias = str
"""The name of a precision. A bundle may hold builds in any; `PRECISIONS` are those that can be exported."""


@dataclass(frozen=True)
class NumberFormat:
    """What a precision means.

    Attributes:
        dtype: NumPy's and PyTorch's name of the type of weights and results.
        weight_bytes: Bytes of one weight.
        tolerance: Largest relative error that is accepted, against PyTorch in float32.
    """

    dtype: str
    weight_bytes: int
    tolerance: float


# Float32 graphs differ by the order of sums only, commonly 1e-6. Half precision has 11 bits, 5e-4 an
# operation, and a network of some hundred operations commonly ends at a few times 1e-3.
PRECISIONS: Mapping[Precision, NumberFormat] = {
    "fp32": NumberFormat(dtype="float32", weight_bytes=4, tolerance=1e-4),
    "fp16": NumberFormat(dtype="float16", weight_bytes=2, tolerance=3e-2),
}


def number_format(precision: Precision) -> NumberFormat:
    """What a precision means.

    Raises:
        ParameterError: The precision is unknown.
    """
    if precision not in PRECISIONS:
        raise ParameterError("unknown precision", received=precision, expected=" or ".join(PRECISIONS))
    return PRECISIONS[precision]
