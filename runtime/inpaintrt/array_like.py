"""Arrays of any library, PyTorch's CPU tensors among them, as NumPy arrays; no library is imported for it."""

from __future__ import annotations

from typing import Any, Protocol, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from inpaintrt.errors import InputError

__all__ = ["ArrayLike", "as_array", "finite_floats"]


class _HasArray(Protocol):
    def __array__(self) -> NDArray[Any]: ...


class _HasDlpack(Protocol):
    def __dlpack__(self) -> object: ...

    def __dlpack_device__(self) -> tuple[int, int]: ...


ArrayLike: TypeAlias = NDArray[Any] | _HasArray | _HasDlpack
"""A NumPy array, or an object with `__array__` or with DLPack's `__dlpack__`."""


def as_array(source: object, refusal: type[InputError]) -> NDArray[Any] | None:
    """Convert an array of any library, without a copy where the library allows it.

    Args:
        source: Any object.
        refusal: The class of the error.

    Returns:
        The array; None if the object is not an `ArrayLike`.

    Raises:
        InputError: (`refusal`) The library does not hand over its values, for example because they are on a
            GPU, take part in automatic differentiation, or have a dtype that NumPy does not know.
    """
    try:
        if hasattr(source, "__array__"):
            return np.asarray(source)
        if hasattr(source, "__dlpack__"):
            return np.from_dlpack(cast("Any", source))
    except (TypeError, ValueError, RuntimeError, BufferError) as error:
        raise refusal(
            "the array cannot be read by NumPy",
            received=f"{type(source).__name__}: {error}",
            expected="an array in the CPU's memory with a dtype of NumPy's",
            hint="of a PyTorch tensor, pass tensor.detach().cpu().float()",
        ) from error
    return None


def finite_floats(name: str, source: object, refusal: type[InputError]) -> NDArray[np.floating]:
    """Convert a parameter to an array of finite floats.

    Args:
        name: The parameter's name, for the error.
        source: Any object.
        refusal: The class of the error.

    Raises:
        InputError: (`refusal`) It is no array of floats, or a value is NaN or infinite.
    """
    values = as_array(source, refusal)
    if values is None or not np.issubdtype(values.dtype, np.floating):
        raise refusal(
            f"{name} is not an array of floats",
            received=type(source).__name__ if values is None else values.dtype,
            expected="an array of float32, of NumPy or of a library with __array__ or DLPack",
            parameter=name,
        )
    nonfinite = np.count_nonzero(~np.isfinite(values))
    if nonfinite:
        raise refusal(
            f"{name} is not finite",
            received=f"{nonfinite} values that are NaN or infinite",
            expected="finite values",
            parameter=name,
        )
    return values
