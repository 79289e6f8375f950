"""Names of samplers: diffusers' classes, and short ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from inpaintrt.errors import SchedulerError
from inpaintrt.samplers.config import DEFAULTS
from inpaintrt.samplers.custom import TAKES_SIGMAS, TAKES_TIMESTEPS
from inpaintrt.samplers.rules import SIGMA_SCHEDULE_KEYS

__all__ = ["TAKES_ETA", "TAKES_TIMESTEP_SPACING", "Choice", "choose", "options_of", "sampler_names"]

TAKES_ETA = frozenset({"DDIMScheduler", "TCDScheduler"})
# LCMScheduler and TCDScheduler have the key in diffusers, and do not read it.
TAKES_TIMESTEP_SPACING = frozenset(
    name for name, defaults in DEFAULTS.items() if "timestep_spacing" in defaults
) - {"LCMScheduler", "TCDScheduler"}


@dataclass(frozen=True)
class Choice:
    """A scheduler class with the options that a name stands for.

    Args:
        class_name: diffusers' name.
        overrides: Options that go before the configuration.
        fallbacks: Options where the configuration of another class says nothing.
    """

    class_name: str
    overrides: Mapping[str, object] = field(default_factory=dict)
    fallbacks: Mapping[str, object] = field(default_factory=dict)


# Latents are not clipped; diffusers' default for these two is meant for pixels.
NO_CLIPPING = {"clip_sample": False}

MULTISTEP = "DPMSolverMultistepScheduler"
SINGLESTEP = "DPMSolverSinglestepScheduler"

BASES: Mapping[str, Choice] = MappingProxyType(
    {
        "ddim": Choice("DDIMScheduler", fallbacks=NO_CLIPPING),
        "ddpm": Choice("DDPMScheduler", fallbacks=NO_CLIPPING),
        "deis": Choice("DEISMultistepScheduler", {"algorithm_type": "deis"}),
        "dpmpp_2m": Choice(MULTISTEP, {"solver_order": 2, "algorithm_type": "dpmsolver++"}),
        "dpmpp_2m_sde": Choice(MULTISTEP, {"solver_order": 2, "algorithm_type": "sde-dpmsolver++"}),
        "dpmpp_2s": Choice(SINGLESTEP, {"solver_order": 2, "algorithm_type": "dpmsolver++"}),
        "dpmpp_3m": Choice(MULTISTEP, {"solver_order": 3, "algorithm_type": "dpmsolver++"}),
        "dpmpp_3m_sde": Choice(MULTISTEP, {"solver_order": 3, "algorithm_type": "sde-dpmsolver++"}),
        "dpmpp_3s": Choice(SINGLESTEP, {"solver_order": 3, "algorithm_type": "dpmsolver++"}),
        "dpmpp_sde": Choice(SINGLESTEP, {"solver_order": 2, "algorithm_type": "sde-dpmsolver++"}),
        "euler": Choice("EulerDiscreteScheduler"),
        "euler_a": Choice("EulerAncestralDiscreteScheduler"),
        "heun": Choice("HeunDiscreteScheduler"),
        "kdpm2": Choice("KDPM2DiscreteScheduler"),
        "kdpm2_a": Choice("KDPM2AncestralDiscreteScheduler"),
        "lcm": Choice("LCMScheduler"),
        "lms": Choice("LMSDiscreteScheduler"),
        "plms": Choice("PNDMScheduler"),
        "pndm": Choice("PNDMScheduler"),
        "tcd": Choice("TCDScheduler"),
        "unipc": Choice("UniPCMultistepScheduler"),
    }
)


def _choices() -> Iterator[tuple[str, Choice]]:
    for name, choice in BASES.items():
        keys = {
            schedule: key
            for schedule, key in SIGMA_SCHEDULE_KEYS.items()
            if key in DEFAULTS[choice.class_name]
        }
        yield name, _with_sigma_schedule(choice, keys, "")
        for schedule in keys:
            yield f"{name}_{schedule}", _with_sigma_schedule(choice, keys, schedule)
    for class_name in DEFAULTS:
        yield class_name, Choice(class_name)


def _with_sigma_schedule(choice: Choice, keys: Mapping[str, str], wanted: str) -> Choice:
    flags = {key: schedule == wanted for schedule, key in keys.items()}
    return Choice(choice.class_name, {**choice.overrides, **flags}, choice.fallbacks)


CHOICES: Mapping[str, Choice] = MappingProxyType(dict(_choices()))


def sampler_names() -> tuple[str, ...]:
    """Every name that stands for one sampler: short ones, then diffusers' class names, each sorted."""
    return (*sorted(CHOICES.keys() - DEFAULTS.keys()), *sorted(DEFAULTS))


def choose(name: str) -> Choice:
    """What a name stands for.

    A short name says everything about its sigma schedule: "euler" has none, "euler_karras" has Karras',
    whatever the configuration says. A class name leaves the configuration as it is.

    Args:
        name: A short name or a class name.

    Returns:
        The class and its options.

    Raises:
        SchedulerError: The name is unknown.
    """
    if name not in CHOICES:
        raise SchedulerError("unknown sampler", received=name, expected=", ".join(sampler_names()))
    return CHOICES[name]


def options_of(name: str) -> frozenset[str]:
    """Which of eta, timestep_spacing, timesteps and sigmas a sampler takes.

    Args:
        name: A name out of sampler_names(), or a hybrid of them, which takes what one of its members takes,
            but neither timesteps nor sigmas. A name with a sigma schedule takes no timesteps.

    Raises:
        SchedulerError: The name is unknown.
    """
    choices = [choose(part.partition(":")[0]) for part in name.split("+")]
    classes = {choice.class_name for choice in choices}
    taken = {"eta": TAKES_ETA, "timestep_spacing": TAKES_TIMESTEP_SPACING}
    if name in CHOICES:
        scheduled = any(choices[0].overrides.get(key) for key in SIGMA_SCHEDULE_KEYS.values())
        taken |= {"timesteps": frozenset() if scheduled else TAKES_TIMESTEPS, "sigmas": TAKES_SIGMAS}
    return frozenset(option for option, takers in taken.items() if classes & takers)
