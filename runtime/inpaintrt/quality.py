"""Quality: steps, sampler and guidance interval by one word.

"exact" is the checkpoint as it is. "balanced" and "fast" stand for settings that were measured on the bundle
and are in its manifest, or else for documented ones. They fill in what a request leaves out (`with_quality`);
nothing else knows the words.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

from inpaintrt.bundle import Manifest, QualitySettings
from inpaintrt.errors import BundleFormatError, ParameterError, SchedulerError
from inpaintrt.samplers import options_of

__all__ = ["DOCUMENTED", "Qualities", "Quality", "qualities_of", "with_quality"]

Quality: TypeAlias = Literal["exact", "balanced", "fast"]
Qualities: TypeAlias = Mapping[str, QualitySettings]
"""What each word but "exact" stands for."""

DOCUMENTED: Qualities = MappingProxyType(
    {
        "balanced": QualitySettings(num_inference_steps=20, scheduler="unipc", timestep_spacing="trailing"),
        "fast": QualitySettings(
            num_inference_steps=10,
            scheduler="unipc",
            timestep_spacing="trailing",
            guidance_interval=(0.0, 0.6),
        ),
    }
)
"""For checkpoints that were not distilled. UniPC (arXiv:2302.04867) converges in 10 steps or less; guidance
matters least at the end of a run (arXiv:2404.07724)."""

_ZERO_SNR: Qualities = MappingProxyType(
    {
        "balanced": QualitySettings(num_inference_steps=20, scheduler="ddim", timestep_spacing="trailing"),
        "fast": QualitySettings(
            num_inference_steps=10,
            scheduler="ddim",
            timestep_spacing="trailing",
            guidance_interval=(0.0, 0.6),
        ),
    }
)
"""For noise schedules that end in pure noise: the sampler and spacing of arXiv:2305.08891, which has them."""

_DISTILLED: Qualities = MappingProxyType(
    {
        "balanced": QualitySettings(num_inference_steps=8),
        "fast": QualitySettings(num_inference_steps=4),
    }
)
"""For few-step checkpoints, which other samplers and a guidance interval would harm: only the steps."""

_MAX_STEPS = 50  # of the exact settings, which a low strength does not exceed
_DISTILLED_SCHEDULERS = frozenset({"LCMScheduler", "TCDScheduler"})


def qualities_of(manifest: Manifest) -> Qualities:
    """What the words stand for with a bundle: measured settings, and documented ones where there are none.

    Few-step checkpoints are recognised by a UNet that takes the guidance scale, by the schedulers LCM and
    TCD, and by trailing timesteps (Turbo, Lightning) unless the noise schedule ends in pure noise.

    Raises:
        BundleFormatError: The measured settings name an unknown sampler, or no guidance interval.
    """
    measured = {word: measured.settings for word, measured in manifest.quality.items()}
    for word, settings in measured.items():
        _check_measured(word, settings)
    return MappingProxyType({**_documented_for(manifest), **measured})


def _documented_for(manifest: Manifest) -> Qualities:
    scheduler = manifest.scheduler
    if (
        manifest.architecture.guidance_embedding_width is not None
        or scheduler.get("_class_name") in _DISTILLED_SCHEDULERS
    ):
        return _DISTILLED
    if scheduler.get("rescale_betas_zero_snr"):
        return _ZERO_SNR
    return _DISTILLED if scheduler.get("timestep_spacing") == "trailing" else DOCUMENTED


def _check_measured(word: str, settings: QualitySettings) -> None:
    hint = "measure again with `inpaintrt bench quality --write`"
    start, stop = settings.guidance_interval
    if start > stop:
        raise BundleFormatError(
            f"the manifest's settings for quality {word!r} have no guidance interval",
            received=settings.guidance_interval,
            expected="two numbers with 0 <= start <= stop <= 1",
            hint=hint,
        )
    try:
        options_of(settings.scheduler or "ddim")
    except SchedulerError as error:
        raise BundleFormatError(
            f"the manifest's settings for quality {word!r} name an unknown sampler",
            received=settings.scheduler,
            expected="one that `inpaintrt samplers` lists",
            hint=hint,
        ) from error


def with_quality(given: Mapping[str, Any], qualities: Qualities) -> dict[str, Any]:
    """Fill in what the quality of a request says.

    What the caller gives goes before it; None counts as not given. With timesteps or sigmas only the guidance
    interval is left of it, and with another sampler the spacing as far as that sampler takes it. At a low
    strength there are so many steps that at least one runs.

    Args:
        given: Options as the caller gave them, perhaps with `quality`.
        qualities: What the words stand for; see `qualities_of`.

    Raises:
        ParameterError: A preset is given as well.
        SchedulerError: The sampler that the caller gives is unknown.
    """
    word = given.get("quality")
    if not isinstance(word, str) or word not in qualities:
        return dict(given)  # "exact"; what is no such word is refused with the other options
    if given.get("preset") is not None:
        raise ParameterError(
            f"quality {word!r} and a preset both say how many steps there are, and of what sampler",
            received=f"quality {word!r} and preset {given['preset']!r}",
            expected="one of them",
            hint="few-step checkpoints and LoRAs want their preset: leave quality out",
            parameter="quality",
        )
    chosen = {name: value for name, value in given.items() if value is not None}
    filled = qualities[word].options
    if "timesteps" in chosen or "sigmas" in chosen:
        for name in ("num_inference_steps", "scheduler", "timestep_spacing"):
            filled.pop(name, None)
    elif isinstance(chosen.get("scheduler"), str) and "timestep_spacing" not in options_of(
        chosen["scheduler"]
    ):
        filled.pop("timestep_spacing", None)
    strength = chosen.get("strength")
    if "num_inference_steps" in filled and isinstance(strength, int | float) and 0 < strength < 1:
        enough = min(math.floor(1 / strength) + 1, _MAX_STEPS)
        filled["num_inference_steps"] = max(filled["num_inference_steps"], enough)
    return {**given, **filled, **chosen}
