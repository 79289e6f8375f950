"""What a manifest holds of quality against speed: the settings that were chosen, and what they measured."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import Meta

__all__ = ["JudgedQuality", "MeasuredQuality", "QualitySettings"]

_Fraction: TypeAlias = Annotated[float, Meta(ge=0, le=1)]


class _Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """A part of the manifest: immutable, and refusing what it does not know."""


class QualitySettings(_Record, frozen=True):
    """The options of a request that a word of `quality` sets.

    Attributes:
        num_inference_steps: Steps of the sampler.
        scheduler: Name of the sampler; None for the checkpoint's own.
        timestep_spacing: Where the steps lie; None for the checkpoint's own way.
        guidance_interval: First and last part of the run in which guidance acts.
    """

    num_inference_steps: Annotated[int, Meta(ge=1, le=1000)]
    scheduler: str | None = None
    timestep_spacing: Literal["leading", "linspace", "trailing"] | None = None
    guidance_interval: tuple[_Fraction, _Fraction] = (0.0, 1.0)

    @property
    def options(self) -> dict[str, Any]:
        """The options by name, without those that are left as they are."""
        return {name: value for name, value in msgspec.structs.asdict(self).items() if value is not None}


class JudgedQuality(_Record, frozen=True):
    """What a judge said of the images.

    Attributes:
        judge: The judge's name.
        cases: How many images it saw.
        found: Share of images that show what the prompt asks for, from 0 to 1.
        exact_found: The same share of the images with the exact settings.
        seam: Mean step across the mask's edge, relative to that of the source images.
    """

    judge: str
    cases: int
    found: _Fraction
    exact_found: _Fraction
    seam: float


class MeasuredQuality(_Record, frozen=True):
    """Settings that were chosen from measurements on this bundle by `inpaintrt bench quality --write`.

    Attributes:
        settings: What was chosen.
        exact_steps: Steps of the exact images that they were compared with, with the checkpoint's sampler.
        time_ratio: Time of a request over that of an exact one, the median of pairs from the same run.
        psnr: Mean PSNR in the mask to the exact images, in dB.
        backend: What ran the engines.
        date: Day of the measurement, ISO 8601, UTC.
        versions: Versions of the packages that matter.
        judged: What a judge said; None where there was none.
    """

    settings: QualitySettings
    exact_steps: int
    time_ratio: float
    psnr: float
    backend: str
    date: str
    versions: dict[str, str]
    judged: JudgedQuality | None = None
