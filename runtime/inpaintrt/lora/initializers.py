"""The weights in an ONNX file: where each lies, so that it can be read and replaced without the library onnx.

Source of the layout: onnx.proto. A `ModelProto` has the graph in field 7, a `GraphProto` its initializers in
field 5.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from inpaintrt.errors import BundleIntegrityError

__all__ = ["Initializer", "read_initializers"]

_GRAPH, _INITIALIZER = 7, 5
_DIMS, _DATA_TYPE, _NAME, _RAW_DATA, _EXTERNAL_DATA = 1, 2, 8, 9, 13
_ENTRY_KEY, _ENTRY_VALUE = 1, 2
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_DTYPES: Final[Mapping[int, np.dtype[Any]]] = {1: np.dtype(np.float32), 10: np.dtype(np.float16)}


@dataclass(frozen=True)
class Initializer:
    """A floating-point weight of an ONNX graph.

    Attributes:
        name: Its name in the graph.
        shape: Its shape.
        dtype: float32 or float16.
        file: The file that its values lie in.
        offset: Where they begin in that file.
        external: Whether that is another file than the graph's.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    file: Path
    offset: int
    external: bool

    @property
    def nbytes(self) -> int:
        """Bytes of its values, in its own type."""
        return math.prod(self.shape) * self.dtype.itemsize

    def read(self) -> NDArray[np.float32]:
        """Its values in float32."""
        mapped = np.memmap(self.file, self.dtype, mode="r", offset=self.offset, shape=self.shape)
        return np.array(mapped, np.float32)


def read_initializers(path: Path) -> dict[str, Initializer]:
    """The floating-point weights of an ONNX file by name; other constants are left out.

    Raises:
        BundleIntegrityError: The file is not an ONNX file.
    """
    content = memoryview(path.read_bytes())
    try:
        found = [
            _initializer(path, content, start, end)
            for field, graph_start, graph_end in _fields(content, 0, len(content))
            if field == _GRAPH
            for inner, start, end in _fields(content, graph_start, graph_end)
            if inner == _INITIALIZER
        ]
    except (IndexError, KeyError, ValueError) as error:
        raise BundleIntegrityError(
            f"{path} is not an ONNX file",
            received=str(error),
            hint="copy the bundle again, or export it again",
        ) from error
    return {initializer.name: initializer for initializer in found if initializer is not None}


def _initializer(path: Path, content: memoryview, start: int, end: int) -> Initializer | None:
    name, kind, raw = "", 0, -1
    shape: list[int] = []
    external: dict[str, str] = {}
    for field, first, last in _fields(content, start, end):
        if field == _DIMS:
            shape += [first] if last < 0 else _packed(content, first, last)
        elif field == _DATA_TYPE:
            kind = first
        elif field == _NAME:
            name = bytes(content[first:last]).decode()
        elif field == _RAW_DATA:
            raw = first
        elif field == _EXTERNAL_DATA:
            external |= [_entry(content, first, last)]
    if kind not in _DTYPES or (raw < 0 and not external):
        return None
    file = path.parent / external["location"] if external else path
    offset = int(external.get("offset", 0)) if external else raw
    return Initializer(name, tuple(shape), _DTYPES[kind], file, offset, external=bool(external))


def _entry(content: memoryview, start: int, end: int) -> tuple[str, str]:
    texts = {
        field: bytes(content[first:last]).decode() for field, first, last in _fields(content, start, end)
    }
    return texts[_ENTRY_KEY], texts.get(_ENTRY_VALUE, "")


def _packed(content: memoryview, start: int, end: int) -> list[int]:
    numbers = []
    while start < end:
        number, start = _varint(content, start)
        numbers.append(number)
    return numbers


def _fields(content: memoryview, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Number, beginning and end of each field of a message; of a number, itself and -1."""
    while start < end:
        tag, start = _varint(content, start)
        field, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            number, start = _varint(content, start)
            yield field, number, -1
        elif kind == _BYTES:
            length, start = _varint(content, start)
            if start + length > end:
                raise ValueError(f"a field of {length} bytes at byte {start} reaches beyond its message")
            yield field, start, start + length
            start += length
        elif kind in (_FIXED64, _FIXED32):
            start += 8 if kind == _FIXED64 else 4
        else:
            raise ValueError(f"there is no wire type {kind}, at byte {start}")


def _varint(content: memoryview, start: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = content[start]
        number |= (byte & 0x7F) << shift
        start, shift = start + 1, shift + 7
        if byte & 0x80 == 0:
            return number, start
        if shift > 63:
            raise ValueError(f"a number at byte {start} has no end")
