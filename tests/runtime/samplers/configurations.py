"""Configurations of every scheduler class that a table can express."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product

from runtime.samplers.reference import BETAS

Options = dict[str, object]

SPACINGS: tuple[Options, ...] = (
    {"timestep_spacing": "leading", "steps_offset": 1},
    {"timestep_spacing": "linspace"},
    {"timestep_spacing": "trailing"},
)
SIGMA_SCHEDULES: tuple[Options, ...] = (
    {},
    {"use_karras_sigmas": True},
    {"use_exponential_sigmas": True},
    {"use_beta_sigmas": True},
)
EPSILON: Options = {"prediction_type": "epsilon"}
VELOCITY: Options = {"prediction_type": "v_prediction"}
SAMPLE: Options = {"prediction_type": "sample"}
PLAIN: tuple[Options, ...] = ({},)

# Per class: options that the tests need, spacings, sigma_schedules, prediction types.
Family = tuple[Options, tuple[Options, ...], tuple[Options, ...], tuple[Options, ...]]
UNCLIPPED: Options = {"clip_sample": False}
FAMILIES: Mapping[str, Family] = {
    "DDIMScheduler": (UNCLIPPED, SPACINGS, PLAIN, (EPSILON, VELOCITY, SAMPLE)),
    "DDPMScheduler": (UNCLIPPED, SPACINGS, PLAIN, (EPSILON, VELOCITY, SAMPLE)),
    "DEISMultistepScheduler": ({}, SPACINGS, SIGMA_SCHEDULES, (EPSILON, VELOCITY, SAMPLE)),
    "DPMSolverMultistepScheduler": (
        {},
        SPACINGS,
        (*SIGMA_SCHEDULES, {"use_lu_lambdas": True}),
        (EPSILON, VELOCITY, SAMPLE),
    ),
    "DPMSolverSinglestepScheduler": ({}, PLAIN, SIGMA_SCHEDULES, (EPSILON, VELOCITY, SAMPLE)),
    "EulerAncestralDiscreteScheduler": ({}, SPACINGS, PLAIN, (EPSILON, VELOCITY)),
    "EulerDiscreteScheduler": ({}, SPACINGS, SIGMA_SCHEDULES, (EPSILON, VELOCITY, SAMPLE)),
    "HeunDiscreteScheduler": ({}, SPACINGS, SIGMA_SCHEDULES, (EPSILON, VELOCITY, SAMPLE)),
    "KDPM2AncestralDiscreteScheduler": ({}, SPACINGS, SIGMA_SCHEDULES, (EPSILON, VELOCITY)),
    "KDPM2DiscreteScheduler": ({}, SPACINGS, SIGMA_SCHEDULES, (EPSILON, VELOCITY)),
    "LCMScheduler": ({}, PLAIN, PLAIN, (EPSILON, VELOCITY, SAMPLE)),
    "LMSDiscreteScheduler": ({}, SPACINGS, SIGMA_SCHEDULES, (EPSILON, VELOCITY, SAMPLE)),
    "PNDMScheduler": ({"skip_prk_steps": True}, SPACINGS, PLAIN, (EPSILON, VELOCITY)),
    "TCDScheduler": ({}, PLAIN, PLAIN, (EPSILON, VELOCITY, SAMPLE)),
    "UniPCMultistepScheduler": ({}, SPACINGS, SIGMA_SCHEDULES, (EPSILON, VELOCITY, SAMPLE)),
}


def configuration(class_name: str, *parts: Mapping[str, object]) -> Options:
    merged: Options = {"_class_name": class_name, **BETAS, **FAMILIES[class_name][0]}
    for part in parts:
        merged.update(part)
    return merged


def options_of_every_class() -> Iterator[Options]:
    for class_name, (_, spacings, sigma_schedules, predictions) in FAMILIES.items():
        for spacing, sigma_schedule, prediction in product(spacings, sigma_schedules, predictions):
            yield configuration(class_name, spacing, sigma_schedule, prediction)


def label(value: object) -> str:
    if isinstance(value, dict):
        return "-".join(str(item) for key, item in value.items() if key not in BETAS)
    return str(value)
