"""Timesteps or sigmas that a caller gives in place of a scheduler's own (diffusers' retrieve_timesteps)."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Iterable
from itertools import pairwise
from numbers import Real
from typing import TYPE_CHECKING

import numpy as np

from inpaintrt.errors import ParameterError
from inpaintrt.samplers.rules import SIGMA_SCHEDULE_KEYS
from inpaintrt.samplers.solver import CustomSchedule

if TYPE_CHECKING:
    from inpaintrt.samplers.config import Settings

__all__ = ["TAKES_SIGMAS", "TAKES_TIMESTEPS", "check_custom_schedule", "custom_schedule"]

TAKES_TIMESTEPS = frozenset(
    {
        "DDPMScheduler",
        "DPMSolverMultistepScheduler",
        "DPMSolverSinglestepScheduler",
        "EulerDiscreteScheduler",
        "HeunDiscreteScheduler",
        "LCMScheduler",
        "TCDScheduler",
    }
)
# UniPCMultistepScheduler takes sigmas only with use_flow_sigmas, which no table expresses.
TAKES_SIGMAS = frozenset({"EulerDiscreteScheduler"})
TAKES_FRACTIONS = frozenset({"EulerDiscreteScheduler", "HeunDiscreteScheduler"})
STRICTLY_FALLING = frozenset({"DDPMScheduler", "LCMScheduler", "TCDScheduler"})


def custom_schedule(
    timesteps: Iterable[float] | None, sigmas: Iterable[float] | None
) -> CustomSchedule | None:
    """Read what a caller gives.

    Args:
        timesteps: Timesteps of every step, falling, or None.
        sigmas: Noise to signal ratio of every step, falling, and the one that the last step arrives at, or
            None.

    Returns:
        The schedule, or None where nothing is given.

    Raises:
        ParameterError: Both are given, or something else than numbers, or too few of them.
    """
    if timesteps is not None and sigmas is not None:
        raise ParameterError(
            "timesteps and sigmas are both given",
            received=f"timesteps = {reprlib.repr(timesteps)}, sigmas = {reprlib.repr(sigmas)}",
            expected="one of them, or neither",
            parameter="sigmas",
        )
    if timesteps is not None:
        return CustomSchedule(timesteps=_numbers("timesteps", timesteps, minimum=1))
    if sigmas is not None:
        return CustomSchedule(sigmas=_numbers("sigmas", sigmas, minimum=2))
    return None


def _numbers(parameter: str, values: object, minimum: int) -> tuple[float, ...]:
    items = list(values) if isinstance(values, Iterable) and not isinstance(values, str) else None
    if items is None or len(items) < minimum or not all(_is_finite(item) for item in items):
        raise _wrong(parameter, values, f"a list of {minimum} or more finite numbers")
    return tuple(float(item) for item in items)


def _is_finite(item: object) -> bool:
    return not isinstance(item, bool) and isinstance(item, Real) and math.isfinite(item)


def _wrong(parameter: str, received: object, expected: str) -> ParameterError:
    return ParameterError(
        f"{parameter} cannot be run", received=reprlib.repr(received), expected=expected, parameter=parameter
    )


def check_custom_schedule(class_name: str, settings: Settings, custom: CustomSchedule) -> None:
    """Raise ParameterError where a scheduler does not take a caller's timesteps or sigmas.

    Args:
        class_name: The scheduler.
        settings: Its settings.
        custom: What the caller gives.

    Raises:
        ParameterError: The scheduler takes none, or not these.
    """
    parameter = "timesteps" if custom.sigmas is None else "sigmas"
    takes = TAKES_TIMESTEPS if custom.sigmas is None else TAKES_SIGMAS
    if class_name not in takes:
        raise ParameterError(
            f"{class_name} takes no {parameter}",
            received=f"{parameter} with {class_name}",
            expected=f"no {parameter}, or one of {', '.join(sorted(takes))}",
            parameter=parameter,
        )
    if custom.timesteps is not None:
        _check_timesteps(class_name, settings, custom.timesteps)
    if custom.sigmas is not None:
        _check_sigmas(custom.sigmas)


def _check_timesteps(class_name: str, settings: Settings, timesteps: tuple[float, ...]) -> None:
    if settings.sigma_schedule:
        raise ParameterError(
            f"{class_name} takes no timesteps where its configuration asks for a sigma schedule",
            received=f"timesteps with {SIGMA_SCHEDULE_KEYS[settings.sigma_schedule]}",
            expected="one of them",
            hint="name the sampler without its sigma schedule",
            parameter="timesteps",
        )
    last = settings.training.num_train_timesteps - 1
    if not all(0.0 <= timestep <= last for timestep in timesteps):
        raise _wrong("timesteps", list(timesteps), f"numbers from 0 to {last}")
    if class_name not in TAKES_FRACTIONS and not all(timestep.is_integer() for timestep in timesteps):
        raise _wrong("timesteps", list(timesteps), f"integers, which {class_name} needs")
    _check_falling("timesteps", timesteps, strictly=class_name in STRICTLY_FALLING)


def _check_sigmas(sigmas: tuple[float, ...]) -> None:
    if max(sigmas) > float(np.finfo(np.float32).max):
        raise _wrong("sigmas", list(sigmas), "numbers that float32 holds")
    if not (all(sigma > 0.0 for sigma in sigmas[:-1]) and sigmas[-1] >= 0.0):
        raise _wrong("sigmas", list(sigmas), "numbers above 0; only the last may be 0")
    _check_falling("sigmas", sigmas, strictly=False)


def _check_falling(parameter: str, values: tuple[float, ...], *, strictly: bool) -> None:
    if any(later > earlier or (strictly and later == earlier) for earlier, later in pairwise(values)):
        expected = "each smaller than the one before" if strictly else "none larger than the one before"
        raise _wrong(parameter, list(values), expected)
