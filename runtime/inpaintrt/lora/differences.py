"""The difference that a LoRA makes to a weight, from its factors.

Sources: LoRA (arXiv:2106.09685), LoCon, LoHa and LoKr (LyCORIS, arXiv:2309.14859; FedPara, arXiv:2108.06098).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from inpaintrt.lora.files import LoraTensor

__all__ = ["Difference", "FullDifference", "HadamardProduct", "KroneckerProduct", "LowRank"]

Floats = NDArray[np.float32]
Shape = tuple[int, ...]


class Difference(Protocol):
    """A difference of a weight `[out, in]` or `[out, in, height, width]`, or of a bias `[out]`."""

    @property
    def rank(self) -> int:
        """What alpha is divided by."""
        ...

    @property
    def shape(self) -> Shape | None:
        """Its shape; None where the factors do not fit one another."""
        ...

    def values(self) -> Floats:
        """The difference, not scaled yet."""
        ...


@dataclass(frozen=True)
class FullDifference:
    """The difference itself.

    Attributes:
        difference: Of the weight's shape.
    """

    difference: LoraTensor
    rank = 1

    @property
    def shape(self) -> Shape:
        """Its shape."""
        return self.difference.shape

    def values(self) -> Floats:
        """The difference, not scaled yet."""
        return self.difference.read()


@dataclass(frozen=True)
class LowRank:
    """The product of two matrices, of convolutions, or (Tucker) of a core and two matrices.

    Attributes:
        up: `[out, rank]`, or of a convolution `[out, rank, 1, 1]`.
        down: `[rank, in]`, or of a convolution `[rank, in, height, width]`.
        mid: `[rank, rank, height, width]`, with factors of 1 x 1.
    """

    up: LoraTensor
    down: LoraTensor
    mid: LoraTensor | None = None

    @property
    def rank(self) -> int:
        """What alpha is divided by."""
        return self.down.shape[0] if self.down.shape else 0

    @property
    def shape(self) -> Shape | None:
        """Its shape; None where the factors do not fit one another."""
        up, down = _without_ones(self.up.shape), self.down.shape
        if len(up) != 2 or len(down) not in (2, 4) or up[1] != down[0]:
            return None
        if self.mid is None:
            return (up[0], *down[1:])
        down, mid = _without_ones(down), self.mid.shape
        fits = len(down) == 2 and len(mid) == 4 and mid[:2] == (up[1], down[0])
        return (up[0], down[1], *mid[2:]) if fits else None

    def values(self) -> Floats:
        """The difference, not scaled yet."""
        up, down = self.up.read(), self.down.read()
        up, flat = up.reshape(len(up), -1), down.reshape(len(down), -1)
        if self.mid is not None:
            return _tucker(self.mid.read(), up.T, flat)
        return (up @ flat).reshape(len(up), *down.shape[1:])


@dataclass(frozen=True)
class HadamardProduct:
    """LoHa: the elementwise product of two low-rank matrices, or (Tucker) of two Tucker products.

    Attributes:
        first: `hada_w1_a` and `hada_w1_b`: `[out, rank]` and `[rank, in * height * width]`; with cores
            `[rank, out]` and `[rank, in]`.
        second: `hada_w2_a` and `hada_w2_b`.
        cores: `hada_t1` and `hada_t2`, `[rank, rank, height, width]`.
    """

    first: tuple[LoraTensor, LoraTensor]
    second: tuple[LoraTensor, LoraTensor]
    cores: tuple[LoraTensor | None, LoraTensor | None] = (None, None)

    @property
    def rank(self) -> int:
        """What alpha is divided by."""
        shape = self.first[1].shape
        return shape[0] if shape else 0

    @property
    def shape(self) -> Shape | None:
        """Its shape; None where the factors do not fit one another."""
        shapes = {
            _product_shape(*pair, core)
            for pair, core in zip((self.first, self.second), self.cores, strict=True)
        }
        return shapes.pop() if len(shapes) == 1 else None

    def values(self) -> Floats:
        """The difference, not scaled yet."""
        first, second = (
            _product(*pair, core) for pair, core in zip((self.first, self.second), self.cores, strict=True)
        )
        return first * second


@dataclass(frozen=True)
class KroneckerProduct:
    """LoKr: the Kronecker product of a small and a large matrix, each whole or of low rank.

    Attributes:
        first: `lokr_w1`, or `lokr_w1_a` and `lokr_w1_b`.
        second: `lokr_w2`, or `lokr_w2_a` and `lokr_w2_b`; of a convolution with its height and width.
        core: `lokr_t2`, `[rank, rank, height, width]`.
    """

    first: tuple[LoraTensor, ...]
    second: tuple[LoraTensor, ...]
    core: LoraTensor | None = None

    @property
    def rank(self) -> int:
        """What alpha is divided by; 0 where both are whole, since alpha counts for nothing then."""
        low_rank = [pair for pair in (self.first, self.second) if len(pair) == 2]
        return low_rank[0][1].shape[0] if low_rank and low_rank[0][1].shape else 0

    @property
    def shape(self) -> Shape | None:
        """Its shape; None where the factors do not fit one another."""
        first, second = _factor_shape(self.first, None), _factor_shape(self.second, self.core)
        if first is None or second is None or len(first) != 2 or len(second) not in (2, 4):
            return None
        return (first[0] * second[0], first[1] * second[1], *second[2:])

    def values(self) -> Floats:
        """The difference, not scaled yet."""
        first, second = _factor(self.first, None), _factor(self.second, self.core)
        product: Floats = np.kron(first.reshape(first.shape + (1,) * (second.ndim - 2)), second)
        return product


def _factor_shape(tensors: tuple[LoraTensor, ...], core: LoraTensor | None) -> Shape | None:
    if len(tensors) == 1:
        return tensors[0].shape if core is None else None
    return _product_shape(tensors[0], tensors[1], core)


def _factor(tensors: tuple[LoraTensor, ...], core: LoraTensor | None) -> Floats:
    return tensors[0].read() if len(tensors) == 1 else _product(tensors[0], tensors[1], core)


def _product_shape(a: LoraTensor, b: LoraTensor, core: LoraTensor | None) -> Shape | None:
    if len(a.shape) != 2 or len(b.shape) not in (2, 4):
        return None
    if core is None:
        return (a.shape[0], *b.shape[1:]) if a.shape[1] == b.shape[0] else None
    fits = len(b.shape) == 2 and len(core.shape) == 4 and core.shape[:2] == (a.shape[0], b.shape[0])
    return (a.shape[1], b.shape[1], *core.shape[2:]) if fits else None


def _product(a: LoraTensor, b: LoraTensor, core: LoraTensor | None) -> Floats:
    left, right = a.read(), b.read()
    if core is not None:
        return _tucker(core.read(), left, right)
    return (left @ right.reshape(len(right), -1)).reshape(len(left), *right.shape[1:])


def _tucker(core: Floats, left: Floats, right: Floats) -> Floats:
    """A core `[i, j, height, width]` with `[i, out]` and `[j, in]` to `[out, in, height, width]`."""
    product: Floats = np.einsum("ijhw,io,jn->onhw", core, left, right, optimize=True)
    return product


def _without_ones(shape: Shape) -> Shape:
    """A shape without axes of size 1 behind the first two."""
    return shape[:2] if math.prod(shape[2:]) == 1 else shape
