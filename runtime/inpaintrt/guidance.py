"""Guidance as weights: how much each prompt's prediction counts, at each evaluation of the UNet."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inpaintrt.errors import ParameterError
from inpaintrt.options import NegativeMode

__all__ = ["Guidance"]


@dataclass(frozen=True)
class Guidance:
    """How the predictions for a request's prompts combine into one.

    Attributes:
        scale: Guidance scale g. At 1 or below only the prompt itself is evaluated, as in diffusers.
        negative: "replace" puts the negative prompt in the place of the empty one,
            `negative + g (prompt - negative)` (Ho and Salimans, arXiv:2207.12598, eq. 6 with w = g - 1);
            "symmetric" keeps all three, `empty + g (prompt - empty) - g (negative - empty)`.
        interval: First and last part of the run, from 0 to 1, in which guidance acts
            (Kynkäänniemi et al., arXiv:2404.07724); outside only the prompt itself is evaluated.

    Raises:
        ParameterError: A value is out of its range.
    """

    scale: float = 7.5
    negative: NegativeMode = "replace"
    interval: tuple[float, float] = (0.0, 1.0)

    def __post_init__(self) -> None:
        if not math.isfinite(self.scale):
            raise ParameterError(
                "guidance_scale is not finite", received=self.scale, expected="a number, usually 1 to 15"
            )
        if self.negative not in ("replace", "symmetric"):
            raise ParameterError(
                "negative_mode is unknown", received=repr(self.negative), expected="'replace' or 'symmetric'"
            )
        start, stop = self.interval
        if not 0 <= start <= stop <= 1:
            raise ParameterError(
                "guidance_interval is not an interval",
                received=self.interval,
                expected="two numbers with 0 <= start <= stop <= 1",
            )

    @property
    def active(self) -> bool:
        """Whether any other prompt than the request's own is evaluated."""
        return self.scale > 1

    def weights(self, rows: int, *, has_negative: bool) -> NDArray[np.float32]:
        """The weight of each context at each row of the sampler's table.

        Args:
            rows: Evaluations of the UNet in the run.
            has_negative: There is a negative prompt; without one both modes are the same.

        Returns:
            `[rows, contexts]`: contexts are the prompt alone; or the negative (else the empty) prompt and the
            prompt; or, for "symmetric", the empty, the negative and the prompt. A weight of 0 means that the
            row need not be evaluated.
        """
        if not self.active:
            return np.ones((rows, 1), np.float32)
        guided = [1 - self.scale, self.scale]
        if self.negative == "symmetric" and has_negative:
            guided = [1.0, -self.scale, self.scale]
        weights = np.tile(np.array(guided, np.float32), (rows, 1))
        outside = self._outside(rows)
        weights[outside] = 0
        weights[outside, -1] = 1
        return weights

    def _outside(self, rows: int) -> NDArray[np.bool_]:
        start, stop = self.interval
        progress = np.arange(rows) / rows
        return (progress < start) | (progress >= stop)
