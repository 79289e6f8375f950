"""What every key of a scheduler configuration may be."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from inpaintrt.errors import SchedulerError

__all__ = ["RULES", "SIGMA_SCHEDULE_KEYS", "Rule", "check_value"]

SIGMA_SCHEDULE_KEYS: Mapping[str, str] = MappingProxyType(
    {
        "karras": "use_karras_sigmas",
        "exponential": "use_exponential_sigmas",
        "beta": "use_beta_sigmas",
        "lu": "use_lu_lambdas",
    }
)


def _unchanged(value: object) -> object:
    return value


@dataclass(frozen=True)
class Rule:
    """Which values a key may have.

    Args:
        accepts: Tells whether a value is supported.
        expected: The same in words.
        convert: Brings a value that is accepted to the type that the settings hold.
    """

    accepts: Callable[[object], bool]
    expected: str
    convert: Callable[[object], object] = _unchanged


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(value)


def _number(value: object) -> object:
    return float(value) if isinstance(value, int | float) else value


def _tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list | tuple) else value


def _boolean() -> Rule:
    return Rule(lambda value: isinstance(value, bool), "true or false")


def _only(*supported: str | None) -> Rule:
    words = " or ".join("null" if value is None else repr(value) for value in supported)
    return Rule(lambda value: (value is None or isinstance(value, str)) and value in supported, words)


def _above_zero(value: object) -> bool:
    return isinstance(value, int | float) and _is_number(value) and 0.0 < value < math.inf


def _integer(minimum: int) -> Rule:
    return Rule(
        lambda value: isinstance(value, int) and _is_int(value) and value >= minimum,
        f"an integer from {minimum}",
    )


def _is_beta(value: object) -> bool:
    return isinstance(value, int | float) and _is_number(value) and 0.0 < value < 1.0


def _is_list_of(value: object, accepts: Callable[[object], bool]) -> bool:
    return isinstance(value, list | tuple) and all(accepts(item) for item in value)


OFF = Rule(lambda value: value is False, "false")
ON = Rule(lambda value: value is True, "true")
ANY = Rule(lambda _value: True, "anything, since it has no effect")
BETA = Rule(_is_beta, "a number between 0 and 1", _number)
SIGMA_END = Rule(lambda value: value is None or _above_zero(value), "a number above 0, or null", _number)

RULES: Mapping[str, Rule] = MappingProxyType(
    {
        "num_train_timesteps": _integer(2),
        "beta_start": BETA,
        "beta_end": BETA,
        "beta_schedule": _only("linear", "scaled_linear", "squaredcos_cap_v2"),
        "trained_betas": Rule(
            lambda value: value is None or _is_list_of(value, _is_beta),
            "numbers between 0 and 1, or null",
            _tuple,
        ),
        "prediction_type": _only("epsilon", "v_prediction", "sample"),
        "timestep_spacing": _only("leading", "linspace", "trailing"),
        "steps_offset": _integer(0),
        "rescale_betas_zero_snr": _boolean(),
        "set_alpha_to_one": _boolean(),
        "clip_sample": OFF,
        "clip_sample_range": ANY,
        "thresholding": OFF,
        "dynamic_thresholding_ratio": ANY,
        "sample_max_value": ANY,
        "variance_type": _only(None, "fixed_small", "fixed_small_log", "fixed_large", "fixed_large_log"),
        "skip_prk_steps": ON,
        "use_karras_sigmas": _boolean(),
        "use_exponential_sigmas": _boolean(),
        "use_beta_sigmas": _boolean(),
        "use_lu_lambdas": _boolean(),
        "sigma_min": SIGMA_END,
        "sigma_max": SIGMA_END,
        "interpolation_type": _only("linear"),
        "timestep_type": _only("discrete"),
        "final_sigmas_type": _only("zero", "sigma_min"),
        "use_flow_sigmas": OFF,
        "flow_shift": ANY,
        "use_dynamic_shifting": OFF,
        "time_shift_type": ANY,
        "shift_terminal": _only(None),
        "lambda_min_clipped": Rule(
            lambda value: _is_number(value) and value != math.inf, "a number", _number
        ),
        "solver_order": Rule(lambda value: _is_int(value) and value in (1, 2, 3), "1, 2 or 3"),
        "algorithm_type": _only("dpmsolver++", "sde-dpmsolver++", "dpmsolver", "sde-dpmsolver", "deis"),
        "solver_type": _only("midpoint", "heun", "logrho", "bh1", "bh2"),
        "lower_order_final": _boolean(),
        "euler_at_final": _boolean(),
        "predict_x0": _boolean(),
        "disable_corrector": Rule(lambda value: _is_list_of(value, _is_int), "a list of integers", _tuple),
        "solver_p": _only(None),
        "original_inference_steps": _integer(1),
        "timestep_scaling": Rule(_above_zero, "a number above 0", _number),
    }
)

NO_SAMPLE_PREDICTION = _only("epsilon", "v_prediction")

# Where a scheduler takes less than the key allows in general.
RULES_OF_CLASS: Mapping[tuple[str, str], Rule] = MappingProxyType(
    {
        ("PNDMScheduler", "prediction_type"): NO_SAMPLE_PREDICTION,
        ("EulerAncestralDiscreteScheduler", "prediction_type"): NO_SAMPLE_PREDICTION,
        ("KDPM2DiscreteScheduler", "prediction_type"): NO_SAMPLE_PREDICTION,
        ("KDPM2AncestralDiscreteScheduler", "prediction_type"): NO_SAMPLE_PREDICTION,
        ("DDPMScheduler", "variance_type"): _only(None, "fixed_small", "fixed_small_log", "fixed_large"),
        ("DPMSolverSinglestepScheduler", "algorithm_type"): _only(
            "dpmsolver++", "sde-dpmsolver++", "dpmsolver", "deis"
        ),
        ("DEISMultistepScheduler", "algorithm_type"): _only("deis", "dpmsolver", "dpmsolver++"),
    }
)


def check_value(class_name: str, key: str, value: object) -> None:
    """Raise SchedulerError where a table cannot express what a key asks for.

    Args:
        class_name: The scheduler that reads the key.
        key: The key.
        value: Its value.

    Raises:
        SchedulerError: The value is not supported.
    """
    for rule in (RULES[key], RULES_OF_CLASS.get((class_name, key))):
        if rule is not None and not rule.accepts(value):
            raise SchedulerError(
                f"{class_name} with {key} = {reprlib.repr(value)} cannot be run as a table",
                received=f"{key} = {reprlib.repr(value)}",
                expected=f"{key} = {rule.expected}",
                hint=f"set {key!r} in the scheduler's configuration, or choose another sampler",
            )
