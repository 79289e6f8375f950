"""What a LoRA file changes: a module's weight and bias, from the factors that the file has for it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from inpaintrt.errors import LoraFileError, LoraMismatchError
from inpaintrt.lora.adapter import AdapterConfig
from inpaintrt.lora.differences import (
    Difference,
    FullDifference,
    HadamardProduct,
    KroneckerProduct,
    LowRank,
)
from inpaintrt.lora.files import LoraTensor

__all__ = ["Change", "make_changes"]

Floats = NDArray[np.float32]
Factors = Mapping[str, LoraTensor]

_WHOLE: Final = (
    {"down", "up"},
    {"hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"},
    *(
        {*first, *second}
        for first in (("lokr_w1",), ("lokr_w1_a", "lokr_w1_b"))
        for second in (("lokr_w2",), ("lokr_w2_a", "lokr_w2_b"))
    ),
    {"diff"},
)
_OPTIONAL: Final = (
    {"mid", "up_bias", "magnitude"},
    {"hada_t1", "hada_t2"},
    *({"lokr_t2"} for _ in range(4)),
    set[str](),
)
_ALWAYS_OPTIONAL: Final = {"alpha", "dora_scale", "diff_b"}


@dataclass(frozen=True)
class Change:
    """How a LoRA changes one weight or bias.

    Attributes:
        name: The module as the file spells it, for errors.
        difference: The difference, not scaled yet.
        factor: What the file itself scales it by: alpha over rank.
        magnitude: DoRA's lengths of the changed weight's rows `[out, 1, …]` or columns `[1, in, …]`.
        convention: How the user's scale counts with DoRA. "lycoris": the way from the weight to the changed
            weight is scaled, as in LyCORIS' `apply_dora_scale` and ComfyUI. "peft": the difference is scaled
            before the lengths are set, as in PEFT.
    """

    name: str
    difference: Difference
    factor: float = 1.0
    magnitude: LoraTensor | None = None
    convention: Literal["lycoris", "peft"] = "lycoris"

    def apply(self, weight: Floats, scale: float, *, pads_channels: bool = False) -> Floats:
        """The changed weight.

        Args:
            weight: `[out, in]`, `[out, in, height, width]` or `[out]`, float32.
            scale: The user's scale: 0 leaves a weight as it is (but for PEFT's DoRA), 1 is the whole LoRA.
            pads_channels: Whether the difference may lack the input channels of an inpainting checkpoint,
                mask and masked image: they are zeros then.

        Raises:
            LoraMismatchError: The difference has another shape than the weight.
            LoraFileError: A factor is not finite.
        """
        difference = self._fitted(weight.shape, pads_channels=pads_channels)
        if self.magnitude is None:
            return weight + np.float32(scale * self.factor) * difference
        if self.convention == "peft":
            return self._set_lengths(weight + np.float32(scale * self.factor) * difference, self.magnitude)
        changed = self._set_lengths(weight + np.float32(self.factor) * difference, self.magnitude)
        return changed if scale == 1 else weight + np.float32(scale) * (changed - weight)

    def _fitted(self, shape: tuple[int, ...], *, pads_channels: bool) -> Floats:
        found = self.difference.shape
        narrow = (shape[0], (shape[1] - 1) // 2, *shape[2:]) if pads_channels and len(shape) > 1 else shape
        if found is not None and _same_shape(found, shape):
            return self.difference.values().reshape(shape)
        if found is not None and _same_shape(found, narrow):
            padded = np.zeros(shape, np.float32)
            padded[:, : narrow[1]] = self.difference.values().reshape(narrow)
            return padded
        raise LoraMismatchError(
            f"the LoRA's change of {self.name!r} does not fit the network's weight",
            received="factors that do not fit one another" if found is None else f"shape {list(found)}",
            expected=f"shape {list(shape)}",
            hint="take a LoRA that was trained for this family of checkpoints (SD 1.x, SD 2.x or SDXL)",
        )

    def _set_lengths(self, weight: Floats, magnitude: LoraTensor) -> Floats:
        ones = (1,) * (weight.ndim - 2)
        by_row, by_column = (weight.shape[0], 1, *ones), (1, weight.shape[1], *ones)
        if self.convention == "peft":
            axes = {(weight.shape[0],): 0, (1, weight.shape[0], *ones): 0, by_row: 0}
        else:
            axes = {by_column: 1, by_row: 0}
        kept = axes.get(magnitude.shape)
        if kept is None:
            raise LoraMismatchError(
                f"the LoRA's magnitude of {self.name!r} does not fit the network's weight",
                received=f"shape {list(magnitude.shape)}",
                expected=" or ".join(f"shape {list(shape)}" for shape in axes),
            )
        others = tuple(axis for axis in range(weight.ndim) if axis != kept)
        lengths = np.sqrt(np.square(weight).sum(axis=others, keepdims=True))
        if self.convention == "lycoris":
            lengths = lengths + np.finfo(np.float32).eps
        changed: Floats = weight * (magnitude.read().reshape(lengths.shape) / lengths)
        return changed


def make_changes(name: str, module: str, factors: Factors, config: AdapterConfig) -> dict[str, Change]:
    """The changes of a module's parameters, "weight" and "bias".

    Args:
        name: The module as the file spells it, for errors.
        module: The module by diffusers' name.
        factors: The file's tensors for it, by what they are.
        config: What the file's metadata says.

    Raises:
        LoraFileError: Factors are missing, or belong to another kind of LoRA.
    """
    _check_factors(name, factors)
    changes = {}
    difference = _difference(factors)
    if difference is not None:
        magnitude = factors.get("magnitude", factors.get("dora_scale"))
        factor = _factor(name, module, difference, factors, config)
        convention: Literal["lycoris", "peft"] = "peft" if "magnitude" in factors else "lycoris"
        changes["weight"] = Change(name, difference, factor, magnitude, convention)
    if "up_bias" in factors:
        changes["bias"] = Change(name, FullDifference(factors["up_bias"]), changes["weight"].factor)
    if "diff_b" in factors:
        changes["bias"] = Change(name, FullDifference(factors["diff_b"]))
    return changes


def _check_factors(name: str, factors: Factors) -> None:
    found = factors.keys() - _ALWAYS_OPTIONAL
    if not found and "diff_b" in factors:
        return
    for whole, optional in zip(_WHOLE, _OPTIONAL, strict=True):
        if whole <= found <= whole | optional:
            break
    else:
        raise LoraFileError(
            f"the LoRA file's factors for {name!r} are not those of one kind of LoRA",
            received=", ".join(sorted(tensor.name for tensor in factors.values())),
            expected="both factors of a LoRA, all of a LoHa or LoKr, or a full difference",
            hint="the file may be damaged: download it again",
        )


def _difference(factors: Factors) -> Difference | None:
    if "down" in factors:
        return LowRank(factors["up"], factors["down"], factors.get("mid"))
    if "hada_w1_a" in factors:
        return HadamardProduct(
            (factors["hada_w1_a"], factors["hada_w1_b"]),
            (factors["hada_w2_a"], factors["hada_w2_b"]),
            (factors.get("hada_t1"), factors.get("hada_t2")),
        )
    if "diff" in factors:
        return FullDifference(factors["diff"])
    if factors.keys().isdisjoint(("lokr_w1", "lokr_w1_a")):
        return None
    return KroneckerProduct(
        _present(factors, ("lokr_w1", "lokr_w1_a", "lokr_w1_b")),
        _present(factors, ("lokr_w2", "lokr_w2_a", "lokr_w2_b")),
        factors.get("lokr_t2"),
    )


def _present(factors: Factors, names: Iterable[str]) -> tuple[LoraTensor, ...]:
    return tuple(factors[name] for name in names if name in factors)


def _factor(name: str, module: str, difference: Difference, factors: Factors, config: AdapterConfig) -> float:
    """Alpha over rank. An alpha of 0 counts as the rank, as kohya-ss and LyCORIS have it."""
    rank = difference.rank
    if isinstance(difference, FullDifference) or rank == 0:
        return 1.0
    if "alpha" not in factors:
        return config.scale(module, rank)
    alpha = factors["alpha"]
    if math.prod(alpha.shape) != 1:
        raise LoraFileError(
            f"the LoRA's alpha of {name!r} is not one number",
            received=f"shape {list(alpha.shape)}",
            expected="shape []",
        )
    value = float(alpha.read().item())
    return value / rank if value else 1.0


def _same_shape(found: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    """Whether they are the same but for axes of size 1 at the end, or for flattened kernels."""
    trimmed = [tuple(shape[: _length_without_ones(shape)]) for shape in (found, wanted)]
    flattened = len(found) == 2 and found == (wanted[0], math.prod(wanted[1:]))
    return trimmed[0] == trimmed[1] or flattened


def _length_without_ones(shape: tuple[int, ...]) -> int:
    length = len(shape)
    while length > 1 and shape[length - 1] == 1:
        length -= 1
    return length
