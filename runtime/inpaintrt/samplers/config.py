"""From diffusers' scheduler_config.json to settings that a table can express; everything else is refused."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Any

from inpaintrt.errors import SchedulerError
from inpaintrt.samplers.rules import RULES, SIGMA_SCHEDULE_KEYS, check_value

__all__ = ["DEFAULTS", "Settings", "Training", "resolve"]


@dataclass(frozen=True)
class Training:
    """The noise schedule that the UNet was trained with, in diffusers' names."""

    num_train_timesteps: int
    beta_start: float
    beta_end: float
    beta_schedule: str
    trained_betas: tuple[float, ...] | None = None
    rescale_betas_zero_snr: bool = False


@dataclass(frozen=True)
class Settings:
    """Everything that a scheduler's configuration says, in diffusers' names; none is left open.

    The defaults are what a scheduler without the option does.

    Args:
        training: The noise schedule of training.
        prediction_type: "epsilon", "v_prediction" or "sample".
        sigma_schedule: "karras", "exponential", "beta", "lu", or "" for the sigmas of the timesteps.
    """

    training: Training
    prediction_type: str
    sigma_schedule: str = ""
    timestep_spacing: str = "linspace"
    steps_offset: int = 0
    set_alpha_to_one: bool = True
    final_sigmas_type: str = "zero"
    sigma_min: float | None = None
    sigma_max: float | None = None
    lambda_min_clipped: float = -math.inf
    solver_order: int = 1
    algorithm_type: str = ""
    solver_type: str = ""
    lower_order_final: bool = True
    euler_at_final: bool = False
    predict_x0: bool = True
    disable_corrector: tuple[int, ...] = ()
    original_inference_steps: int = 50
    timestep_scaling: float = 10.0
    variance_type: str | None = None


def _training_keys(beta_start: float, beta_end: float, beta_schedule: str) -> dict[str, object]:
    return {
        "num_train_timesteps": 1000,
        "beta_start": beta_start,
        "beta_end": beta_end,
        "beta_schedule": beta_schedule,
        "trained_betas": None,
        "prediction_type": "epsilon",
    }


PIXEL_TRAINING = _training_keys(0.0001, 0.02, "linear")
HEUN_TRAINING = _training_keys(0.00085, 0.012, "linear")
LATENT_TRAINING = _training_keys(0.00085, 0.012, "scaled_linear")
LEADING = {"timestep_spacing": "leading", "steps_offset": 0}
LINSPACE = {"timestep_spacing": "linspace", "steps_offset": 0}
RESCALE = {"rescale_betas_zero_snr": False}
CLIP = {"clip_sample": True, "clip_sample_range": 1.0}
NO_CLIP = {"clip_sample": False, "clip_sample_range": 1.0}
THRESHOLD = {"thresholding": False, "dynamic_thresholding_ratio": 0.995, "sample_max_value": 1.0}
# Classes whose sigma schedules read sigma_min and sigma_max, also those that do not declare them.
SIGMA_SCHEDULES = {"use_karras_sigmas": False, "use_exponential_sigmas": False, "use_beta_sigmas": False}
SIGMA_SCHEDULES_WITH_ENDS = SIGMA_SCHEDULES | {"sigma_min": None, "sigma_max": None}
FLOW = {
    "use_flow_sigmas": False,
    "flow_shift": 1.0,
    "use_dynamic_shifting": False,
    "time_shift_type": "exponential",
}
FINAL_SIGMA = {"final_sigmas_type": "zero"}
DPM = {
    "solver_order": 2,
    "algorithm_type": "dpmsolver++",
    "solver_type": "midpoint",
    "lambda_min_clipped": -math.inf,
    "variance_type": None,
}
CONSISTENCY = {"original_inference_steps": 50, "set_alpha_to_one": True, "timestep_scaling": 10.0}

DEFAULTS: Mapping[str, Mapping[str, object]] = MappingProxyType(
    {
        "DDIMScheduler": PIXEL_TRAINING | LEADING | CLIP | THRESHOLD | RESCALE | {"set_alpha_to_one": True},
        "DDPMScheduler": PIXEL_TRAINING
        | LEADING
        | CLIP
        | THRESHOLD
        | RESCALE
        | {"variance_type": "fixed_small"},
        # diffusers' default for skip_prk_steps is False, but its Stable Diffusion pipelines never run it so.
        "PNDMScheduler": PIXEL_TRAINING | LEADING | {"skip_prk_steps": True, "set_alpha_to_one": False},
        "LMSDiscreteScheduler": PIXEL_TRAINING | LINSPACE | SIGMA_SCHEDULES_WITH_ENDS,
        "EulerDiscreteScheduler": PIXEL_TRAINING
        | LINSPACE
        | SIGMA_SCHEDULES_WITH_ENDS
        | RESCALE
        | FINAL_SIGMA
        | {"interpolation_type": "linear", "timestep_type": "discrete"},
        "EulerAncestralDiscreteScheduler": PIXEL_TRAINING | LINSPACE | RESCALE,
        "HeunDiscreteScheduler": HEUN_TRAINING | LINSPACE | SIGMA_SCHEDULES_WITH_ENDS | NO_CLIP,
        "KDPM2DiscreteScheduler": HEUN_TRAINING | LINSPACE | SIGMA_SCHEDULES_WITH_ENDS,
        "KDPM2AncestralDiscreteScheduler": HEUN_TRAINING | LINSPACE | SIGMA_SCHEDULES_WITH_ENDS,
        "DPMSolverMultistepScheduler": PIXEL_TRAINING
        | LINSPACE
        | SIGMA_SCHEDULES_WITH_ENDS
        | THRESHOLD
        | RESCALE
        | FLOW
        | FINAL_SIGMA
        | DPM
        | {"lower_order_final": True, "euler_at_final": False, "use_lu_lambdas": False},
        "DPMSolverSinglestepScheduler": PIXEL_TRAINING
        | SIGMA_SCHEDULES_WITH_ENDS
        | THRESHOLD
        | FLOW
        | FINAL_SIGMA
        | DPM
        | {"lower_order_final": False},
        "DEISMultistepScheduler": PIXEL_TRAINING
        | LINSPACE
        | SIGMA_SCHEDULES_WITH_ENDS
        | THRESHOLD
        | FLOW
        | {"solver_order": 2, "algorithm_type": "deis", "solver_type": "logrho", "lower_order_final": True},
        "UniPCMultistepScheduler": PIXEL_TRAINING
        | LINSPACE
        | SIGMA_SCHEDULES_WITH_ENDS
        | THRESHOLD
        | RESCALE
        | FLOW
        | FINAL_SIGMA
        | {"solver_order": 2, "solver_type": "bh2", "lower_order_final": True, "predict_x0": True}
        | {"disable_corrector": [], "solver_p": None, "shift_terminal": None},
        "LCMScheduler": LATENT_TRAINING | LEADING | NO_CLIP | THRESHOLD | RESCALE | CONSISTENCY,
        "TCDScheduler": LATENT_TRAINING | LEADING | NO_CLIP | THRESHOLD | RESCALE | CONSISTENCY,
    }
)

KNOWN_KEYS = frozenset(key for defaults in DEFAULTS.values() for key in defaults)


def resolve(
    config: Mapping[str, object],
    class_name: str,
    *,
    overrides: Mapping[str, object] = MappingProxyType({}),
    fallbacks: Mapping[str, object] = MappingProxyType({}),
) -> Settings:
    """Read a configuration the way class_name's from_config does.

    Args:
        config: A diffusers scheduler configuration; keys of other schedulers have no effect.
        class_name: The scheduler that is wanted.
        overrides: Options that go before the configuration.
        fallbacks: Options in place of class_name's defaults.

    Returns:
        The settings.

    Raises:
        SchedulerError: A key is unknown, or a value cannot be expressed by a table.
    """
    _refuse_unknown_keys(config)
    defaults = DEFAULTS[class_name]
    unsaid = config.get("_use_default_values", ())
    said = {
        key: value
        for key, value in config.items()
        if key in defaults and not (isinstance(unsaid, list | tuple) and key in unsaid)
    }
    values = {**defaults, **fallbacks, **said, **overrides}
    for key, value in values.items():
        check_value(class_name, key, value)
    return _settings(class_name, values)


def _refuse_unknown_keys(config: Mapping[str, object]) -> None:
    for key in config:
        if not key.startswith("_") and key not in KNOWN_KEYS:
            raise SchedulerError(
                f"the scheduler configuration has the key {key!r}, which no supported scheduler knows",
                received={key: config[key]},
                expected=sorted(KNOWN_KEYS),
                hint="remove the key if it has no effect on the images",
            )


def _settings(class_name: str, values: Mapping[str, object]) -> Settings:
    checked: dict[str, Any] = {key: RULES[key].convert(value) for key, value in values.items()}
    training = Training(
        **{field.name: checked[field.name] for field in fields(Training) if field.name in checked}
    )
    _check_trained_betas(training)
    _check_distillation(checked, training)
    names = {field.name for field in fields(Settings)} & checked.keys()
    return Settings(
        training=training,
        sigma_schedule=_sigma_schedule_name(class_name, values),
        **{name: checked[name] for name in names},
    )


def _check_trained_betas(training: Training) -> None:
    betas = training.trained_betas
    if betas is not None and len(betas) != training.num_train_timesteps:
        raise SchedulerError(
            "trained_betas must hold one number per training timestep",
            received=len(betas),
            expected=training.num_train_timesteps,
        )


def _check_distillation(checked: Mapping[str, Any], training: Training) -> None:
    original = checked.get("original_inference_steps", 1)
    if original > training.num_train_timesteps:
        raise SchedulerError(
            "a distillation has no more steps than its training has timesteps",
            received={"original_inference_steps": original},
            expected=f"at most num_train_timesteps = {training.num_train_timesteps}",
        )


def _sigma_schedule_name(class_name: str, values: Mapping[str, object]) -> str:
    chosen = [name for name, key in SIGMA_SCHEDULE_KEYS.items() if values.get(key)]
    if len(chosen) > 1:
        raise SchedulerError(
            f"{class_name} takes one sigma schedule",
            received=[SIGMA_SCHEDULE_KEYS[name] for name in chosen],
            expected="at most one of them true",
        )
    return chosen[0] if chosen else ""
