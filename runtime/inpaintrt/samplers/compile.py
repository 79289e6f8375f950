"""From a scheduler configuration and a name to a table."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from numbers import Integral, Real
from types import MappingProxyType
from typing import Any, TypeAlias

from inpaintrt.errors import ParameterError, SchedulerError
from inpaintrt.samplers.config import DEFAULTS, Settings, resolve
from inpaintrt.samplers.consistency import lcm_schedule, tcd_schedule
from inpaintrt.samplers.custom import check_custom_schedule, custom_schedule
from inpaintrt.samplers.ddim import ddim_schedule, ddpm_schedule, pndm_schedule
from inpaintrt.samplers.deis import deis_schedule
from inpaintrt.samplers.dpmsolver import multistep_schedule, singlestep_schedule
from inpaintrt.samplers.euler import euler_ancestral_schedule, euler_schedule, lms_schedule
from inpaintrt.samplers.names import TAKES_ETA, TAKES_TIMESTEP_SPACING, Choice, choose
from inpaintrt.samplers.second_order import heun_schedule, kdpm2_ancestral_schedule, kdpm2_schedule
from inpaintrt.samplers.solver import CustomSchedule, NoiseLevel, SolverSchedule, StepRange
from inpaintrt.samplers.table import Init, Table, compile_schedule, join, shorten
from inpaintrt.samplers.unipc import unipc_schedule

__all__ = ["compile_table"]

Builder: TypeAlias = Callable[[Settings, StepRange, float], SolverSchedule]

BUILDERS: Mapping[str, Builder] = MappingProxyType(
    {
        "DDIMScheduler": ddim_schedule,
        "DDPMScheduler": ddpm_schedule,
        "DEISMultistepScheduler": deis_schedule,
        "DPMSolverMultistepScheduler": multistep_schedule,
        "DPMSolverSinglestepScheduler": singlestep_schedule,
        "EulerAncestralDiscreteScheduler": euler_ancestral_schedule,
        "EulerDiscreteScheduler": euler_schedule,
        "HeunDiscreteScheduler": heun_schedule,
        "KDPM2AncestralDiscreteScheduler": kdpm2_ancestral_schedule,
        "KDPM2DiscreteScheduler": kdpm2_schedule,
        "LCMScheduler": lcm_schedule,
        "LMSDiscreteScheduler": lms_schedule,
        "PNDMScheduler": pndm_schedule,
        "TCDScheduler": tcd_schedule,
        "UniPCMultistepScheduler": unipc_schedule,
    }
)
HEUN = "HeunDiscreteScheduler"
SECOND_ORDER = frozenset({HEUN, "KDPM2DiscreteScheduler", "KDPM2AncestralDiscreteScheduler"})
VARIANCE_EXPLODING = SECOND_ORDER | {
    "EulerAncestralDiscreteScheduler",
    "EulerDiscreteScheduler",
    "LMSDiscreteScheduler",
}
"""Samplers whose latents are x0 + ratio * eps in diffusers; those of the others preserve variance."""


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
    timesteps: Iterable[float] | None = None,
    sigmas: Iterable[float] | None = None,
    timestep_spacing: str | None = None,
    denoising_start: float | None = None,
    denoising_end: float | None = None,
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
        steps: Number of steps of the full schedule, from 1 to num_train_timesteps.
        strength: Share of the schedule that is run, 0 to 1; below 1 the image's latents are in the first
            state.
        eta: Fresh noise of DDIM, 0 to 1, or TCD's gamma.
        from_image: Whether the image's latents are in the first state at strength 1, too, as in diffusers'
            image-to-image pipelines; its inpainting pipelines begin with pure noise there.
        timesteps: Timestep of every step, for samplers in `TAKES_TIMESTEPS`; steps is then ignored.
        sigmas: Noise to signal ratio of every step and the one that the last arrives at, for samplers in
            `TAKES_SIGMAS`; steps is then ignored.
        timestep_spacing: "leading", "linspace" or "trailing" in place of the configuration's, as
            `from_config(config, timestep_spacing=...)` in diffusers, for samplers in
            `TAKES_TIMESTEP_SPACING`; timesteps, sigmas and most sigma schedules leave it without effect.
        denoising_start: Share of the schedule that another run has done, above 0 and below 1, in the place
            of strength: the first state is the image's latents as they are, which that run left noisy.
        denoising_end: Share of the schedule after which to stop, above 0 and below 1, with latents that are
            still noisy.

    Raises:
        SchedulerError: The sampler is unknown, or the configuration has a key or a value that no table can
            express.
        ParameterError: A number is out of its range, nothing is left to run, or the sampler takes no
            timesteps, sigmas or timestep_spacing.
    """
    _check_fractions(strength, eta)
    custom = custom_schedule(timesteps, sigmas)
    members = _members(config, name, steps, custom, timestep_spacing)
    _check_eta(members, eta)
    _check_timestep_spacing(members, timestep_spacing)
    label = name if name is not None else members[0].class_name
    if denoising_start is not None or denoising_end is not None:
        _check_part(members, denoising_start, denoising_end)
    if denoising_start is None:
        begin = _first_step(members[-1].end, strength, _strength_units(members[-1], custom))
    else:
        begin = _first_step_of_part(members[0], eta, custom, denoising_start)
    tables = _compile_members(members, begin, eta, custom, from_image=from_image or strength < 1.0)
    table = join(label, tables)
    if denoising_start is not None:
        table = _continued(table)
    if denoising_end is not None:
        table = _shortened(table, members[0], _schedule(members[0], begin, eta, custom), denoising_end)
    return table


def _compile_members(
    members: list[Member], begin: int, eta: float, custom: CustomSchedule | None, *, from_image: bool
) -> list[Table]:
    """Compile the last member first, since it says at which level the one before has to arrive."""
    running = [member for member in members if member.end > begin]
    tables: list[Table] = []
    final_level: NoiseLevel | None = None
    for member in reversed(running):
        step_range = StepRange(
            members[-1].end,
            max(member.begin, begin),
            member.end,
            final_level,
            member is not running[0],
            custom,
        )
        schedule = BUILDERS[member.class_name](member.settings, step_range, eta)
        tables.insert(0, _compile(member, schedule, final_level, from_image=from_image))
        final_level = schedule.levels[0]
    return tables


def _compile(
    member: Member, schedule: SolverSchedule, final_level: NoiseLevel | None, *, from_image: bool
) -> Table:
    first, last = schedule.levels[0], schedule.last_step_level
    if final_level is not None and final_level.ratio >= last.ratio:
        raise SchedulerError(
            f"{member.class_name} cannot hand over: the next sampler begins with more noise than is left",
            received=f"sigma/alpha {last.ratio:.6g}, then {final_level.ratio:.6g}",
            expected="a schedule that falls",
            hint="let the members share their sigma schedule, or move the place where they meet",
        )
    signal, noise = (first.alpha, first.sigma) if from_image else (0.0, schedule.first_noise)
    noisy = first.alpha if member.class_name in VARIANCE_EXPLODING else 1.0
    init = Init(signal, noise, schedule.first_noise, noisy)
    return compile_schedule(member.class_name, schedule, member.settings.prediction_type, init, final_level)


def _schedule(member: Member, begin: int, eta: float, custom: CustomSchedule | None) -> SolverSchedule:
    step_range = StepRange(member.end, begin, member.end, custom=custom)
    return BUILDERS[member.class_name](member.settings, step_range, eta)


def _check_part(members: list[Member], start: float | None, end: float | None) -> None:
    if len(members) > 1:
        raise ParameterError(
            "a hybrid of samplers cannot run a part of its schedule",
            received=f"denoising_start = {start}, denoising_end = {end} with {len(members)} samplers",
            expected="the name of one sampler",
            parameter="denoising_end" if start is None else "denoising_start",
        )
    if start is not None and end is not None and start >= end:
        raise ParameterError(
            "denoising_start is not before denoising_end",
            received=f"denoising_start = {start}, denoising_end = {end}",
            expected="denoising_start below denoising_end",
            parameter="denoising_start",
        )


def _cutoff(member: Member, share: float) -> int:
    """The timestep at which a share of the schedule ends; diffusers rounds it, halves to even numbers."""
    training = member.settings.training.num_train_timesteps
    return round(training - share * training)


def _first_step_of_part(
    member: Member, eta: float, custom: CustomSchedule | None, denoising_start: float
) -> int:
    """The first step that is run after `denoising_start` (diffusers' `get_timesteps`)."""
    timesteps = _schedule(member, 0, eta, custom).timesteps
    rows = int((timesteps < _cutoff(member, denoising_start)).sum())
    if rows == 0:
        raise ParameterError(
            "denoising_start leaves no step to run",
            received=f"denoising_start = {denoising_start} with steps = {member.end}",
            expected="a lower denoising_start, or more steps",
            parameter="denoising_start",
        )
    skipped = len(timesteps) - rows
    # The second row of a step cannot come first: diffusers takes its first row, too.
    return skipped // 2 if member.class_name in SECOND_ORDER else skipped


def _continued(table: Table) -> Table:
    """A table that begins with latents as another run left them."""
    noisy = table.init.noisy
    return replace(table, init=Init(noisy, 0.0, noisy, noisy))


def _shortened(table: Table, member: Member, schedule: SolverSchedule, denoising_end: float) -> Table:
    """A table that ends at `denoising_end`."""
    rows = int((schedule.timesteps >= _cutoff(member, denoising_end)).sum())
    if rows == 0:
        raise ParameterError(
            "denoising_end leaves no step to run",
            received=f"denoising_end = {denoising_end} with steps = {member.end}",
            expected="a higher denoising_end, or more steps",
            parameter="denoising_end",
        )
    if rows >= len(schedule.levels):
        return table
    explodes = member.class_name in VARIANCE_EXPLODING
    return shorten(table, rows, 1.0 / schedule.levels[rows].alpha if explodes else 1.0)


def _members(
    config: Mapping[str, object],
    name: str | None,
    steps: int,
    custom: CustomSchedule | None,
    timestep_spacing: str | None,
) -> list[Member]:
    if name is not None and (":" in name or "+" in name):
        _refuse_custom_hybrid(name, custom)
        members = _hybrid_members(config, name, steps, timestep_spacing)
        _check_steps(members, steps)
        return members
    choice = _configured(config) if name is None else choose(name)
    settings = _settings(config, choice, timestep_spacing)
    if custom is not None:
        check_custom_schedule(choice.class_name, settings, custom)
        return [Member(choice.class_name, settings, 0, custom.steps)]
    member = Member(choice.class_name, settings, 0, steps)
    _check_steps([member], steps)
    return [member]


def _refuse_custom_hybrid(name: str, custom: CustomSchedule | None) -> None:
    if custom is not None:
        parameter = "timesteps" if custom.sigmas is None else "sigmas"
        raise ParameterError(
            f"a hybrid of samplers takes no {parameter}",
            received=f"{parameter} with {name}",
            expected="the name of one sampler",
            parameter=parameter,
        )


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


def _settings(config: Mapping[str, object], choice: Choice, timestep_spacing: str | None) -> Settings:
    switches = config.get("_class_name") != choice.class_name
    fallbacks = choice.fallbacks if switches else {}
    overrides = dict(choice.overrides)
    if timestep_spacing is not None and choice.class_name in TAKES_TIMESTEP_SPACING:
        overrides["timestep_spacing"] = timestep_spacing
    return resolve(config, choice.class_name, overrides=overrides, fallbacks=fallbacks)


def _hybrid_members(
    config: Mapping[str, object], name: str, steps: int, timestep_spacing: str | None
) -> list[Member]:
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
        settings = _settings(config, choice, timestep_spacing)
        members.append(Member(choice.class_name, settings, done, done + count))
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


def _is_between(value: object, minimum: float, maximum: float, kind: type[Any]) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool) and bool(minimum <= value <= maximum)


def _check_steps(members: list[Member], steps: int) -> None:
    limit = min(member.settings.training.num_train_timesteps for member in members)
    if not _is_between(steps, 1, limit, Integral):
        raise ParameterError(
            "steps is out of range",
            received=steps,
            expected=f"an integer from 1 to {limit}",
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


def _check_timestep_spacing(members: list[Member], timestep_spacing: str | None) -> None:
    takers = TAKES_TIMESTEP_SPACING
    if timestep_spacing is not None and not any(member.class_name in takers for member in members):
        raise ParameterError(
            "timestep_spacing has no meaning for this sampler",
            received=f"timestep_spacing = {timestep_spacing!r} with {members[0].class_name}",
            expected=f"no timestep_spacing, or one of {', '.join(sorted(takers))}",
            parameter="timestep_spacing",
        )


def _strength_units(last: Member, custom: CustomSchedule | None) -> int:
    """What strength is a share of: steps, but rows for a caller's timesteps, of which Heun has nearly twice.

    diffusers' retrieve_timesteps returns the number of rows as the number of steps then, so that a strength
    below 1 leaves Heun fewer steps than without timesteps.
    """
    return 2 * last.end - 1 if custom is not None and last.class_name == HEUN else last.end


def _first_step(steps: int, strength: float, units: int) -> int:
    begin = units - min(int(units * strength), units)
    if begin >= steps:
        minimum = (units - steps + 1) / units
        raise ParameterError(
            "strength leaves no step to run",
            received=f"strength = {strength} with steps = {steps}",
            expected=f"strength at least {minimum:.4g} with that many steps",
            hint="raise the strength or the number of steps",
            parameter="strength",
        )
    return begin
