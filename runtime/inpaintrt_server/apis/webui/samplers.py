"""The WebUI's names of samplers and noise schedules, and the samplers of ours that they stand for."""

from __future__ import annotations

from dataclasses import dataclass

from inpaintrt.samplers import sampler_names
from inpaintrt_server.http.refusals import FieldError

__all__ = ["SAMPLERS", "SCHEDULES", "Sampler", "Schedule", "choose_sampler"]


@dataclass(frozen=True)
class Sampler:
    """A sampler as the WebUI names it.

    Attributes:
        name: The WebUI's name.
        base: Our name, without a ramp of sigmas.
        aliases: Other names that stand for it.
        automatic: The ramp that the schedule "Automatic" stands for; "" for none.
        fresh_noise: Whether every step draws noise, with an amount (eta) that is 1 here.
    """

    name: str
    base: str
    aliases: tuple[str, ...] = ()
    automatic: str = ""
    fresh_noise: bool = False

    @property
    def ramps(self) -> tuple[str, ...]:
        """The ramps that it can have; "" is none."""
        return ("", *(ramp for ramp in _RAMPS if f"{self.base}_{ramp}" in sampler_names()))


@dataclass(frozen=True)
class Schedule:
    """A noise schedule as the WebUI names it ("Schedule type").

    Attributes:
        name: The WebUI's name.
        label: What it shows.
        ramp: Our ramp of sigmas; "" for none, None for the sampler's own choice.
    """

    name: str
    label: str
    ramp: str | None


_RAMPS = ("karras", "exponential", "beta")

SCHEDULES = (
    Schedule("automatic", "Automatic", None),
    Schedule("uniform", "Uniform", ""),
    Schedule("karras", "Karras", "karras"),
    Schedule("exponential", "Exponential", "exponential"),
    Schedule("beta", "Beta", "beta"),
)

# The ramps of "Automatic" are those of the WebUI from 1.9 on.
SAMPLERS = (
    Sampler("DPM++ 2M", "dpmpp_2m", ("k_dpmpp_2m",), "karras"),
    Sampler("DPM++ SDE", "dpmpp_sde", ("k_dpmpp_sde",), "karras", fresh_noise=True),
    Sampler("DPM++ 2M SDE", "dpmpp_2m_sde", ("k_dpmpp_2m_sde",), "exponential", fresh_noise=True),
    Sampler("DPM++ 3M SDE", "dpmpp_3m_sde", ("k_dpmpp_3m_sde",), "exponential", fresh_noise=True),
    Sampler("Euler a", "euler_a", ("k_euler_a", "k_euler_ancestral"), fresh_noise=True),
    Sampler("Euler", "euler", ("k_euler",)),
    Sampler("LMS", "lms", ("k_lms",)),
    Sampler("Heun", "heun", ("k_heun",)),
    Sampler("DPM2", "kdpm2", ("k_dpm_2",), "karras"),
    Sampler("DPM2 a", "kdpm2_a", ("k_dpm_2_a",), "karras", fresh_noise=True),
    Sampler("DDIM", "ddim"),
    Sampler("PLMS", "plms"),
    Sampler("UniPC", "unipc"),
    Sampler("LCM", "lcm"),
    Sampler("DPM++ 2S", "dpmpp_2s"),
    Sampler("DPM++ 3M", "dpmpp_3m"),
    Sampler("DPM++ 3S", "dpmpp_3s"),
    Sampler("DDPM", "ddpm", fresh_noise=True),
    Sampler("DEIS", "deis"),
    Sampler("TCD", "tcd"),
)


_BY_WORD = {word.lower(): entry for entry in SAMPLERS for word in (entry.name, *entry.aliases)}
_SCHEDULE_BY_WORD = {word.lower(): entry for entry in SCHEDULES for word in (entry.name, entry.label)}


def choose_sampler(name: str, schedule: str) -> tuple[str, Sampler | None]:
    """What a sampler and a schedule of the WebUI stand for.

    Names are taken as the WebUI shows them, in any case; with the schedule behind the name too, as older
    versions wrote it ("DPM++ 2M Karras"), which goes before a schedule "Automatic". Our own names and
    hybrids of them stand for themselves.

    Args:
        name: A sampler.
        schedule: A schedule; an empty text is "Automatic".

    Returns:
        Our name, and the WebUI's sampler; None where only our own name is known.

    Raises:
        FieldError: A name is unknown, or the sampler does not have that schedule.
    """
    asked = _schedule(schedule or SCHEDULES[0].name)
    sampler, own = _BY_WORD.get(name.lower()), name
    if sampler is None and (name in sampler_names() or ":" in name):
        if asked.ramp is not None:
            raise _wrong_schedule(name, asked, ("",))
        return own, None
    if sampler is None:
        sampler, behind = _split(name)
        asked = behind if asked.ramp is None else asked
    ramp = sampler.automatic if asked.ramp is None else asked.ramp
    if ramp not in sampler.ramps:
        raise _wrong_schedule(sampler.name, asked, sampler.ramps)
    return f"{sampler.base}_{ramp}" if ramp else sampler.base, sampler


def _schedule(name: str) -> Schedule:
    if name.lower() not in _SCHEDULE_BY_WORD:
        raise FieldError(
            "this server does not have the schedule",
            field="scheduler",
            received=name,
            expected=", ".join(schedule.label for schedule in SCHEDULES),
        )
    return _SCHEDULE_BY_WORD[name.lower()]


def _split(name: str) -> tuple[Sampler, Schedule]:
    """Split a name that ends with its schedule."""
    front, _, last = name.lower().rpartition(" ")
    if front not in _BY_WORD or last not in _SCHEDULE_BY_WORD:
        raise FieldError(
            "this server does not have the sampler",
            field="sampler_name",
            received=name,
            expected=", ".join(sampler.name for sampler in SAMPLERS),
            hint="names that `inpaintrt samplers` lists are known too",
        )
    return _BY_WORD[front], _SCHEDULE_BY_WORD[last]


def _wrong_schedule(name: str, asked: Schedule, ramps: tuple[str, ...]) -> FieldError:
    fitting = [entry.label for entry in SCHEDULES if entry.ramp is None or entry.ramp in ramps]
    return FieldError(
        f"the sampler {name} does not have this schedule here",
        field="scheduler",
        received=asked.label,
        expected=", ".join(fitting),
    )
