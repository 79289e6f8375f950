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
RAMPS: tuple[Options, ...] = (
    {},
    {"use_karras_sigmas": True},
    {"use_exponential_sigmas": True},
    {"use_beta_sigmas": True},
)
EPSILON: Options = {"prediction_type": "epsilon"}
VELOCITY: Options = {"prediction_type": "v_prediction"}
SAMPLE: Options = {"prediction_type": "sample"}
PLAIN: tuple[Options, ...] = ({},)

# Per class: options that the tests need, spacings, ramps, prediction types.
Family = tuple[Options, tuple[Options, ...], tuple[Options, ...], tuple[Options, ...]]
UNCLIPPED: Options = {"clip_sample": False}
FAMILIES: Mapping[str, Family] = {
    "DDIMScheduler": (UNCLIPPED, SPACINGS, PLAIN, (EPSILON, VELOCITY, SAMPLE)),
    "DDPMScheduler": (UNCLIPPED, SPACINGS, PLAIN, (EPSILON, VELOCITY, SAMPLE)),
    "DEISMultistepScheduler": ({}, SPACINGS, RAMPS, (EPSILON, VELOCITY, SAMPLE)),
    "DPMSolverMultistepScheduler": (
        {},
        SPACINGS,
        (*RAMPS, {"use_lu_lambdas": True}),
        (EPSILON, VELOCITY, SAMPLE),
    ),
    "DPMSolverSinglestepScheduler": ({}, PLAIN, RAMPS, (EPSILON, VELOCITY, SAMPLE)),
    "EulerAncestralDiscreteScheduler": ({}, SPACINGS, PLAIN, (EPSILON, VELOCITY)),
    "EulerDiscreteScheduler": ({}, SPACINGS, RAMPS, (EPSILON, VELOCITY, SAMPLE)),
    "HeunDiscreteScheduler": ({}, SPACINGS, RAMPS, (EPSILON, VELOCITY, SAMPLE)),
    "KDPM2AncestralDiscreteScheduler": ({}, SPACINGS, RAMPS, (EPSILON, VELOCITY)),
    "KDPM2DiscreteScheduler": ({}, SPACINGS, RAMPS, (EPSILON, VELOCITY)),
    "LCMScheduler": ({}, PLAIN, PLAIN, (EPSILON, VELOCITY, SAMPLE)),
    "LMSDiscreteScheduler": ({}, SPACINGS, RAMPS, (EPSILON, VELOCITY, SAMPLE)),
    "PNDMScheduler": ({"skip_prk_steps": True}, SPACINGS, PLAIN, (EPSILON, VELOCITY)),
    "TCDScheduler": ({}, PLAIN, PLAIN, (EPSILON, VELOCITY, SAMPLE)),
    "UniPCMultistepScheduler": ({}, SPACINGS, RAMPS, (EPSILON, VELOCITY, SAMPLE)),
}


def configuration(class_name: str, *parts: Mapping[str, object]) -> Options:
    merged: Options = {"_class_name": class_name, **BETAS, **FAMILIES[class_name][0]}
    for part in parts:
        merged.update(part)
    return merged


def options_of_every_class() -> Iterator[Options]:
    for class_name, (_, spacings, ramps, predictions) in FAMILIES.items():
        for spacing, ramp, prediction in product(spacings, ramps, predictions):
            yield configuration(class_name, spacing, ramp, prediction)


def label(value: object) -> str:
    if isinstance(value, dict):
        return "-".join(str(item) for key, item in value.items() if key not in BETAS)
    return str(value)
