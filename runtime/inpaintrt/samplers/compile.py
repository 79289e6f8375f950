"""From a scheduler configuration and a name to a table."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from types import MappingProxyType
from typing import Any, TypeAlias

from inpaintrt.errors import ParameterError, SchedulerError
from inpaintrt.samplers.config import DEFAULTS, Settings, resolve
from inpaintrt.samplers.consistency import plan_lcm, plan_tcd
from inpaintrt.samplers.ddim import plan_ddim, plan_ddpm, plan_pndm
from inpaintrt.samplers.deis import plan_deis
from inpaintrt.samplers.dpmsolver import plan_multistep, plan_singlestep
from inpaintrt.samplers.euler import plan_euler, plan_euler_ancestral, plan_lms
from inpaintrt.samplers.names import Choice, choose
from inpaintrt.samplers.second_order import plan_heun, plan_kdpm2, plan_kdpm2_ancestral
from inpaintrt.samplers.solver import Level, Plan, Span
from inpaintrt.samplers.table import Init, Table, compile_plan, join
from inpaintrt.samplers.unipc import plan_unipc

__all__ = ["compile_table"]

Planner: TypeAlias = Callable[[Settings, Span, float], Plan]

PLANNERS: Mapping[str, Planner] = MappingProxyType(
    {
        "DDIMScheduler": plan_ddim,
        "DDPMScheduler": plan_ddpm,
        "DEISMultistepScheduler": plan_deis,
        "DPMSolverMultistepScheduler": plan_multistep,
        "DPMSolverSinglestepScheduler": plan_singlestep,
        "EulerAncestralDiscreteScheduler": plan_euler_ancestral,
        "EulerDiscreteScheduler": plan_euler,
        "HeunDiscreteScheduler": plan_heun,
        "KDPM2AncestralDiscreteScheduler": plan_kdpm2_ancestral,
        "KDPM2DiscreteScheduler": plan_kdpm2,
        "LCMScheduler": plan_lcm,
        "LMSDiscreteScheduler": plan_lms,
        "PNDMScheduler": plan_pndm,
        "TCDScheduler": plan_tcd,
        "UniPCMultistepScheduler": plan_unipc,
    }
)
TAKES_ETA = frozenset({"DDIMScheduler", "TCDScheduler"})


@dataclass(frozen=True)
class Member:
    """One sampler of a table, with the steps of the common schedule that are its own."""

    class_name: str
    settings: Settings
    begin: int
    end: int


def compile_table(
    config: Mapping[str, object],
    name: str | None,
    steps: int,
    *,
    strength: float = 1.0,
    eta: float = 0.0,
    from_image: bool = False,
) -> Table:
    """Compile a sampler to a table.

    A hybrid "ddim:30+ddpm:20" makes 50 steps: each member computes the schedule of all 50 and runs its own
    part of it. Where one member hands over to the next, its last row arrives at the noise level at which
    the next one's first row begins; the next begins without history. The counts are steps, as `steps` is:
    members with two rows per step run both.

    A PNDM configuration that does not have skip_prk_steps means PLMS. Keys of other schedulers than the one
    that runs have no effect, as in diffusers; short names leave latents unclipped where the configuration
    of another class does not mention clip_sample.

    Args:
        config: diffusers' scheduler_config.json, with _class_name unless a name is given.
        name: A name out of sampler_names(), a hybrid of them, or None for the configuration's own class.
        steps: Number of steps of the whole schedule, from 1 to num_train_timesteps.
        strength: Share of the schedule that is run, 0 to 1; below 1 the image's latents are in the first
            state.
        eta: Fresh noise of DDIM, 0 to 1, or TCD's gamma.
        from_image: Whether the image's latents are in the first state at strength 1, too, as in diffusers'
            image-to-image pipelines; its inpainting pipelines begin with pure noise there.

    Returns:
        The table.

    Raises:
        SchedulerError: The sampler is unknown, or the configuration has a key or a value that no table can
            express.
        ParameterError: A number is out of its range, or nothing is left to run.
    """
    _check_fractions(strength, eta)
    members = _members(config, name, steps)
    _check_steps(members, steps)
    _check_eta(members, eta)
    begin = _first_step(steps, strength)
    running = [member for member in members if member.end > begin]
    tables: list[Table] = []
    landing: Level | None = None
    for member in reversed(running):
        span = Span(steps, max(member.begin, begin), member.end, landing, joined=member is not running[0])
        plan = PLANNERS[member.class_name](member.settings, span, eta)
        tables.insert(0, _compile(member, plan, landing, from_image=from_image or strength < 1.0))
        landing = plan.levels[0]
    label = name if name is not None else members[0].class_name
    return join(label, tables)


def _compile(member: Member, plan: Plan, landing: Level | None, *, from_image: bool) -> Table:
    first, last = plan.levels[0], plan.last_step_level
    if landing is not None and landing.ratio >= last.ratio:
        raise SchedulerError(
            f"{member.class_name} cannot hand over: the next sampler begins with more noise than is left",
            received=f"sigma/alpha {last.ratio:.6g}, then {landing.ratio:.6g}",
            expected="a schedule that falls",
            hint="let the members share their ramp, or move the place where they meet",
        )
    signal, noise = (first.alpha, first.sigma) if from_image else (0.0, plan.first_noise)
    init = Init(signal, noise, plan.first_noise)
    return compile_plan(member.class_name, plan, member.settings.prediction_type, init, landing)


def _members(config: Mapping[str, object], name: str | None, steps: int) -> list[Member]:
    if name is not None and (":" in name or "+" in name):
        return _hybrid_members(config, name, steps)
    choice = _configured(config) if name is None else choose(name)
    return [Member(choice.class_name, _settings(config, choice), 0, steps)]


def _configured(config: Mapping[str, object]) -> Choice:
    class_name = config.get("_class_name")
    if not isinstance(class_name, str) or class_name not in DEFAULTS:
        raise SchedulerError(
            "the scheduler configuration names no supported scheduler",
            received={"_class_name": class_name},
            expected=", ".join(DEFAULTS),
            hint="name a sampler to take in its place",
        )
    return Choice(class_name)


def _settings(config: Mapping[str, object], choice: Choice) -> Settings:
    switches = config.get("_class_name") != choice.class_name
    fallbacks = choice.fallbacks if switches else {}
    return resolve(config, choice.class_name, overrides=choice.overrides, fallbacks=fallbacks)


def _hybrid_members(config: Mapping[str, object], name: str, steps: int) -> list[Member]:
    members: list[Member] = []
    done = 0
    for part in name.split("+"):
        match = re.fullmatch(r"(\w+):([1-9][0-9]*)", part)
        if match is None:
            raise SchedulerError(
                "a hybrid is written NAME:STEPS+NAME:STEPS",
                received=name,
                expected="for example ddim:30+ddpm:20",
            )
        choice, count = choose(match[1]), int(match[2])
        members.append(Member(choice.class_name, _settings(config, choice), done, done + count))
        done += count
    if done != steps:
        raise ParameterError(
            f"the steps of {name!r} do not add up",
            received=f"steps = {steps}",
            expected=f"steps = {done}",
            parameter="num_inference_steps",
        )
    return members


def _check_fractions(strength: float, eta: float) -> None:
    for what, value in (("strength", strength), ("eta", eta)):
        if not _is_between(value, 0.0, 1.0, Real):
            raise ParameterError(
                f"{what} is out of range", received=value, expected="a number from 0 to 1", parameter=what
            )


def _is_between(value: object, least: float, most: float, kind: type[Any]) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool) and bool(least <= value <= most)


def _check_steps(members: list[Member], steps: int) -> None:
    limit = min(member.settings.training.num_train_timesteps for member in members)
    if not _is_between(steps, 1, limit, Integral):
        raise ParameterError(
            "steps is out of range",
            received=steps,
            expected=f"a whole number from 1 to {limit}",
            parameter="num_inference_steps",
        )


def _check_eta(members: list[Member], eta: float) -> None:
    if eta != 0.0 and not any(member.class_name in TAKES_ETA for member in members):
        raise ParameterError(
            "eta has no meaning for this sampler",
            received=f"eta = {eta} with {members[0].class_name}",
            expected=f"eta = 0, or one of {', '.join(sorted(TAKES_ETA))}",
            parameter="eta",
        )


def _first_step(steps: int, strength: float) -> int:
    left = min(int(steps * strength), steps)
    if left < 1:
        raise ParameterError(
            "strength leaves no step to run",
            received=f"strength = {strength} with steps = {steps}",
            expected=f"steps * strength at least 1, so strength at least {1 / steps:.4g}",
            hint="raise the strength or the number of steps",
            parameter="strength",
        )
    return steps - left
