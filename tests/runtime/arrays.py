"""An array of a library that has DLPack alone."""

from dataclasses import dataclass
from typing import Any


@dataclass
class HasDlpack:
    """Hands over the values of another array, and has no `__array__`."""

    values: Any

    def __dlpack__(self, **options: object) -> object:
        return self.values.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        device: tuple[int, int] = self.values.__dlpack_device__()
        return device
