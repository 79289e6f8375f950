"""Presets: the options that few-step checkpoints and LoRAs were published with.

A preset is data. Its options fill in what a request leaves out (`with_preset`); nothing else knows presets.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from inpaintrt.errors import ParameterError
from inpaintrt.samplers import options_of

__all__ = [
    "PRESETS",
    "Preset",
    "check_checkpoint",
    "check_steps",
    "find_preset",
    "presets_for",
    "with_preset",
]

_BOTH = ("sd", "sdxl")
_SDXL = ("sdxl",)
_LCM_GUIDE = "https://huggingface.co/docs/diffusers/using-diffusers/inference_with_lcm"
_TCD_GUIDE = "https://huggingface.co/docs/diffusers/using-diffusers/inference_with_tcd_lora"
_TURBO_GUIDE = "https://huggingface.co/docs/diffusers/using-diffusers/sdxl_turbo"
_HYPER_SD = ("arXiv:2404.13686", "https://huggingface.co/ByteDance/Hyper-SD")
_LIGHTNING = ("arXiv:2402.13929", "https://huggingface.co/ByteDance/SDXL-Lightning")
_DMD2 = ("arXiv:2405.14867", "https://huggingface.co/tianweiy/DMD2")


@dataclass(frozen=True)
class Preset:
    """The options that a checkpoint or a LoRA was published with.

    Attributes:
        name: What requests call it.
        purpose: The files that it is for.
        families: Families of checkpoints that there are such files for.
        scheduler: Name of the sampler; None for the checkpoint's own.
        num_inference_steps: Steps of the sampler.
        guidance_scale: 1 and less mean that there is no classifier-free guidance.
        sources: Where the numbers are from: the paper, then the model card or diffusers' guide.
        eta: Noise of DDIM, gamma of TCD.
        timestep_spacing: Where the steps lie; None where the sampler has no choice.
        timesteps: The timestep of each step; None for the sampler's own.
        exact: Whether each file is for this number of steps alone.
        guidance_embedding: Whether it is for UNets that take the guidance scale as an input.
    """

    name: str
    purpose: str
    families: tuple[str, ...]
    scheduler: str | None
    num_inference_steps: int
    guidance_scale: float
    sources: tuple[str, str]
    eta: float | None = None
    timestep_spacing: str | None = None
    timesteps: tuple[float, ...] | None = None
    exact: bool = False
    guidance_embedding: bool = False

    @property
    def options(self) -> dict[str, Any]:
        """The options of a request that it sets."""
        names = (
            "scheduler",
            "num_inference_steps",
            "guidance_scale",
            "eta",
            "timestep_spacing",
            "timesteps",
        )
        return {name: value for name in names if (value := getattr(self, name)) is not None}

    def fits(self, family: str, *, guidance_embedding: bool) -> bool:
        """Whether there are such files for a checkpoint.

        Args:
            family: The checkpoint's.
            guidance_embedding: Whether its UNet takes the guidance scale as an input.
        """
        return family in self.families and self.guidance_embedding <= guidance_embedding


def _lightning(steps: int) -> Preset:
    return Preset(
        f"lightning-{steps}step",
        f"sdxl_lightning_{steps}step, UNet or LoRA",
        _SDXL,
        "euler",
        steps,
        0.0,
        _LIGHTNING,
        timestep_spacing="trailing",
        exact=True,
    )


def _hyper_sd(steps: int) -> Preset:
    return Preset(
        f"hyper-sd-{steps}step",
        f"Hyper-SD15-{steps}steps-lora or Hyper-SDXL-{steps}steps-lora",
        _BOTH,
        "ddim",
        steps,
        0.0,
        _HYPER_SD,
        timestep_spacing="trailing",
        exact=True,
    )


_ALL = (
    Preset(
        "lcm",
        "checkpoints of latent consistency models, which take the guidance scale as an input",
        _BOTH,
        "lcm",
        4,
        8.0,
        ("arXiv:2310.04378", _LCM_GUIDE),
        guidance_embedding=True,
    ),
    Preset("lcm-lora", "LCM-LoRA; 2 to 8 steps", _BOTH, "lcm", 4, 1.0, ("arXiv:2311.05556", _LCM_GUIDE)),
    Preset("tcd", "TCD-LoRA; 4 to 50 steps", _BOTH, "tcd", 4, 0.0, ("arXiv:2402.19159", _TCD_GUIDE), eta=0.3),
    _lightning(2),
    _lightning(4),
    _lightning(8),
    Preset(
        "hyper-sd-1step",
        "Hyper-SD15-1step-lora or Hyper-SDXL-1step-lora, which are for 1 to 8 steps",
        _BOTH,
        "tcd",
        1,
        0.0,
        _HYPER_SD,
        eta=1.0,
    ),
    Preset(
        "hyper-sd-1step-unet",
        "Hyper-SDXL-1step-Unet",
        _SDXL,
        "lcm",
        1,
        0.0,
        _HYPER_SD,
        timesteps=(800.0,),
        exact=True,
    ),
    _hyper_sd(2),
    _hyper_sd(4),
    _hyper_sd(8),
    Preset(
        "dmd2-1step",
        "dmd2_sdxl_1step_unet",
        _SDXL,
        "lcm",
        1,
        0.0,
        _DMD2,
        timesteps=(399.0,),
        exact=True,
    ),
    Preset(
        "dmd2",
        "dmd2_sdxl_4step, UNet or LoRA",
        _SDXL,
        "lcm",
        4,
        0.0,
        _DMD2,
        timesteps=(999.0, 749.0, 499.0, 249.0),
        exact=True,
    ),
    Preset(
        "sd-turbo",
        "SD-Turbo; 1 to 4 steps",
        ("sd",),
        None,
        1,
        0.0,
        ("arXiv:2311.17042", "https://huggingface.co/stabilityai/sd-turbo"),
        timestep_spacing="trailing",
    ),
    Preset(
        "sdxl-turbo",
        "SDXL-Turbo; 1 to 4 steps",
        _SDXL,
        "euler_a",
        1,
        0.0,
        ("arXiv:2311.17042", _TURBO_GUIDE),
        timestep_spacing="trailing",
    ),
)

PRESETS: Mapping[str, Preset] = MappingProxyType({preset.name: preset for preset in _ALL})
"""All presets by name."""


def find_preset(name: object) -> Preset:
    """The preset of a name.

    Raises:
        ParameterError: There is none.
    """
    if not isinstance(name, str) or name not in PRESETS:
        raise ParameterError(
            "there is no such preset", received=repr(name), expected=", ".join(PRESETS), parameter="preset"
        )
    return PRESETS[name]


def presets_for(family: str, *, guidance_embedding: bool) -> tuple[Preset, ...]:
    """The presets that fit a checkpoint (see `Preset.fits`)."""
    return tuple(p for p in PRESETS.values() if p.fits(family, guidance_embedding=guidance_embedding))


def with_preset(given: Mapping[str, Any]) -> dict[str, Any]:
    """Fill in what the preset of a request says.

    What the caller gives goes before the preset; None counts as not given. Of the preset's timesteps nothing
    is left where another number of steps or sigmas are given; and where another sampler is given, only those
    of eta, spacing and timesteps that it takes.

    Args:
        given: Options as the caller gave them, perhaps with `preset`.

    Raises:
        ParameterError: There is no such preset.
        SchedulerError: The sampler that the caller gives is unknown.
    """
    if given.get("preset") is None:
        return dict(given)
    preset = find_preset(given["preset"])
    chosen = {name: value for name, value in given.items() if value is not None}
    filled = preset.options
    if "sigmas" in chosen or chosen.get("num_inference_steps", preset.num_inference_steps) != (
        preset.num_inference_steps
    ):
        filled.pop("timesteps", None)
    if isinstance(chosen.get("scheduler"), str):
        for name in {"eta", "timestep_spacing", "timesteps"} - options_of(chosen["scheduler"]):
            filled.pop(name, None)
    return {**given, **filled, **chosen}


def check_steps(name: str | None, parameter: str, steps: int) -> None:
    """Check the number of steps against a preset whose files are for one number alone.

    Args:
        name: The preset's name, or None.
        parameter: The option that says how many steps there are.
        steps: Their number.

    Raises:
        ParameterError: It is another one.
    """
    preset = None if name is None else find_preset(name)
    if preset is not None and preset.exact and steps != preset.num_inference_steps:
        raise ParameterError(
            f"the preset {preset.name!r} has another number of steps",
            received=f"{steps} steps",
            expected=f"{preset.num_inference_steps}, which {preset.purpose} was trained for",
            hint="choose the file and the preset for that many steps, or leave the preset out",
            parameter=parameter,
        )


def check_checkpoint(name: str | None, family: str, *, guidance_embedding: bool) -> None:
    """Check that a preset fits a checkpoint.

    Args:
        name: The preset's name, or None.
        family: The checkpoint's.
        guidance_embedding: Whether its UNet takes the guidance scale as an input.

    Raises:
        ParameterError: It does not.
    """
    fitting = presets_for(family, guidance_embedding=guidance_embedding)
    if name is None or find_preset(name) in fitting:
        return
    without = "" if guidance_embedding else ", whose UNet does not take the guidance scale as an input"
    raise ParameterError(
        f"the preset {name!r} is not for this checkpoint",
        received=f"{name} with a checkpoint of the family {family!r}{without}",
        expected=", ".join(preset.name for preset in fitting),
        hint=f"it is for {find_preset(name).purpose}",
        parameter="preset",
    )
