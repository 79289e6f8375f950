"""Gaussian noise that equals PyTorch's CPU generator, so that a seed gives the image it gives there."""

from __future__ import annotations

import math
import secrets
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from inpaintrt.errors import ParameterError

__all__ = ["Generator", "NoiseSource", "StepNoise", "resolve_seeds"]

_BLOCK = 16
_CHOOSE_SEED = -1
_LARGEST_SEED = 2**64 - 1


class Generator:
    """The numbers of `torch.Generator("cpu").manual_seed(seed)`, drawn in NumPy.

    Both draw from MT19937 (Matsumoto and Nishimura 1998) and transform as Box and Muller (1958) do.

    Args:
        seed: From -2**63 to 2**64 - 1; only its low 32 bits matter, as in PyTorch.

    Raises:
        ParameterError: The seed is not an integer of that range.
    """

    def __init__(self, seed: int) -> None:
        if isinstance(seed, bool) or not isinstance(seed, int | np.integer):
            raise ParameterError("the seed is not an integer", received=repr(seed), expected="an integer")
        if not -(2**63) <= seed <= _LARGEST_SEED:
            raise ParameterError(
                "the seed is out of range",
                received=seed,
                expected=f"an integer from -2**63 to {_LARGEST_SEED}",
            )
        self._random = np.random.RandomState(int(seed) & 0xFFFFFFFF)
        self._spare: float | None = None

    def randn(self, shape: Sequence[int]) -> NDArray[np.float32]:
        """Draw standard normal values, as `torch.randn(shape, generator=generator)` does.

        Values are within 1e-6 of PyTorch's, whose vectorised logarithm and sine round differently.
        """
        count = math.prod(shape)
        if count < _BLOCK:
            return np.array([self._scalar() for _ in range(count)], np.float32).reshape(shape)
        values = _box_muller(self._uniform(count))
        if count % _BLOCK:
            # PyTorch throws the incomplete last block away and draws the last 16 values afresh.
            values[-_BLOCK:] = _box_muller(self._uniform(_BLOCK))
        return values.reshape(shape)

    def _words(self, count: int) -> NDArray[np.uint32]:
        return self._random.randint(0, 2**32, count, dtype=np.uint32)

    def _uniform(self, count: int) -> NDArray[np.float32]:
        return (self._words(count) & 0xFFFFFF).astype(np.float32) * np.float32(2**-24)

    def _uniform_double(self) -> float:
        high, low = (int(word) for word in self._words(2))
        return ((high << 32 | low) & (2**53 - 1)) * 2.0**-53

    def _scalar(self) -> float:
        if self._spare is not None:
            value, self._spare = self._spare, None
            return value
        angle = 2 * math.pi * self._uniform_double()
        radius = math.sqrt(-2 * math.log1p(-self._uniform_double()))
        self._spare = radius * math.sin(angle)
        return radius * math.cos(angle)


def _box_muller(uniform: NDArray[np.float32]) -> NDArray[np.float32]:
    """In each block of 16 the first 8 values give the radius, the last 8 the angle; a tail stays as it is."""
    values = uniform.copy()
    blocks = values[: len(values) // _BLOCK * _BLOCK].reshape(-1, 2, _BLOCK // 2)
    radius = np.sqrt(-2 * np.log(1 - blocks[:, 0]))
    angle = np.float32(2 * math.pi) * blocks[:, 1]
    blocks[:, 0] = radius * np.cos(angle)
    blocks[:, 1] = radius * np.sin(angle)
    return values


class NoiseSource:
    """The noise of one request: from one generator for all its images, or from one generator per image.

    Args:
        seeds: One seed for the whole request, or a sequence with a seed for every image.
    """

    def __init__(self, seeds: int | Sequence[int]) -> None:
        self._shared = Generator(seeds) if isinstance(seeds, int | np.integer) else None
        self._own = [] if isinstance(seeds, int | np.integer) else [Generator(seed) for seed in seeds]

    def draw(self, count: int, shape: Sequence[int]) -> NDArray[np.float32]:
        """Draw `[count, *shape]`, in the order of diffusers' `randn_tensor`."""
        if self._shared is not None:
            return self._shared.randn((count, *shape))
        return np.concatenate([generator.randn((1, *shape)) for generator in self._own[:count]])


class StepNoise:
    """Hands the noise of each step to the images of a request, whichever asks first.

    Args:
        source: The request's generators.
        count: How many images share them.
        shape: The shape of one image's latents, `[channels, height, width]`.
    """

    def __init__(self, source: NoiseSource, count: int, shape: Sequence[int]) -> None:
        self._source = source
        self._count = count
        self._shape = shape
        self._drawn: dict[int, tuple[NDArray[np.float32], set[int]]] = {}

    def draw(self, image: int, row: int) -> NDArray[np.float32]:
        """The noise `[channels, height, width]` of one image at one row of its sampler's table.

        A row is drawn for all images at once, when the first of them asks for it, and forgotten when
        all have it; so all images must run through the same rows in the same order.
        """
        if row not in self._drawn:
            self._drawn[row] = (self._source.draw(self._count, self._shape), set(range(self._count)))
        noise, waiting = self._drawn[row]
        waiting.discard(image)
        if not waiting:
            del self._drawn[row]
        drawn: NDArray[np.float32] = noise[image]
        return drawn


def resolve_seeds(
    seed: int | Sequence[int] | None, total: int, *, as_diffusers: bool
) -> tuple[int | tuple[int, ...], tuple[int, ...]]:
    """The seeds to draw noise from, and those to report.

    One seed counts up: the second result is that of the next seed. diffusers draws all results from one
    generator, and -1 is a seed like any other there.

    Args:
        seed: One seed, or one for each result; -1 or None chooses one.
        total: The number of results.
        as_diffusers: Whether to do as diffusers does.

    Raises:
        ParameterError: There are several seeds, and not one for each result.
    """
    if isinstance(seed, list | tuple):
        if len(seed) != total:
            raise ParameterError(
                "seeds and results do not match in number",
                received=f"{len(seed)} seeds for {total} results",
                expected=f"one seed, or {total}",
                parameter="seed",
            )
        seeds = tuple(seed if as_diffusers else map(_chosen_seed, seed))
        return seeds, seeds
    if as_diffusers:
        shared: Any = _random_seed() if seed is None else seed
        return shared, (shared,) * total
    first = _chosen_seed(cast("int | None", seed))
    seeds = tuple(first + index for index in range(total))
    return seeds, seeds


def _chosen_seed(seed: int | None) -> int:
    return _random_seed() if seed is None or seed == _CHOOSE_SEED else seed


def _random_seed() -> int:
    return secrets.randbelow(2**32)
