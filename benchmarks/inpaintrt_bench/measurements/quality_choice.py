"""The rules by which settings are chosen for "balanced" and "fast", and their way into a manifest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec

from inpaintrt.bundle import JudgedQuality, MeasuredQuality, QualitySettings, load_manifest, save_manifest
from inpaintrt_bench.report.markdown import statistic_of, value_of
from inpaintrt_bench.report.schema import Report, Row, Scalar

__all__ = ["EXACT", "RULES", "Choice", "Rule", "choose", "setting_case", "write_choice"]

EXACT = "exact"
"""The name of the row that others are compared with."""

MAX_SEAM = 1.5
_TIE = 0.02
_WHOLE_RUN = (0.0, 1.0)
_PACKAGES = ("inpaintrt", "onnxruntime", "openvino", "numpy")


@dataclass(frozen=True)
class Rule:
    """What the images of a setting must keep. Of the settings that keep it the fastest is chosen.

    Attributes:
        loss: How much less may be found than with the exact settings, as a share from 0 to 1.
        psnr: The least mean PSNR in the mask to the exact images in dB, where a judge looks.
        unjudged_psnr: The same where none does.
    """

    loss: float
    psnr: float
    unjudged_psnr: float


RULES: Mapping[str, Rule] = MappingProxyType(
    {
        "balanced": Rule(loss=0.01, psnr=30.0, unjudged_psnr=30.0),
        "fast": Rule(loss=0.04, psnr=0.0, unjudged_psnr=25.0),
    }
)
"""With a judge, a seam may also be at most `MAX_SEAM`, or that of the exact settings."""


@dataclass(frozen=True)
class Choice:
    """What was chosen.

    Attributes:
        exact: The row of the exact settings.
        chosen: Settings and their row for each word; a word is missing where no setting keeps its rule.
    """

    exact: Row
    chosen: Mapping[str, tuple[QualitySettings, Row]]

    @property
    def text(self) -> str:
        """The choice in a line for each word."""
        return "\n".join(self._line(word) for word in RULES)

    def _line(self, word: str) -> str:
        if word not in self.chosen:
            return f"{word}: no setting is good enough, so the documented one stays"
        settings, row = self.chosen[word]
        options = ", ".join(f"{name} {value}" for name, value in settings.options.items())
        return f"{word}: {options}; {statistic_of(row, 'ratio'):.2f} of the exact time"


def setting_case(options: Mapping[str, Any]) -> dict[str, Scalar]:
    """What sets the row of a setting apart; options that this does not know keep their names.

    Args:
        options: Of a request, with `num_inference_steps`.
    """
    others = dict(options)
    start, stop = others.pop("guidance_interval", _WHOLE_RUN)
    return {
        "steps": others.pop("num_inference_steps"),
        "sampler": others.pop("scheduler", None),
        "guidance_start": start,
        "guidance_stop": stop,
        **others,
    }


def choose(exact: Row, measured: Sequence[tuple[QualitySettings, Row]]) -> Choice:
    """Choose the fastest settings that keep each rule.

    Settings whose times are within 2 % of the exact time of each other count as equally fast: then the one
    that finds more is chosen, then the one with the higher PSNR.

    Args:
        exact: The row of the exact settings.
        measured: Settings with their rows, from `measure_quality`.
    """
    chosen = {}
    for word, rule in RULES.items():
        good = [pair for pair in measured if _keeps(pair[1], exact, rule)]
        if good:
            limit = min(_time(row) for _, row in good) + _TIE
            fastest = [pair for pair in good if _time(pair[1]) <= limit]
            chosen[word] = max(fastest, key=lambda pair: _gains(pair[1]))
    return Choice(exact, chosen)


def _time(row: Row) -> float:
    return statistic_of(row, "ratio") or 0.0


def _gains(row: Row) -> tuple[float, float]:
    return value_of(row, "share_found") or 0.0, value_of(row, "psnr") or 0.0


def _keeps(row: Row, exact: Row, rule: Rule) -> bool:
    psnr, found, expected = (
        value_of(row, "psnr"),
        value_of(row, "share_found"),
        value_of(exact, "share_found"),
    )
    if psnr is None or _time(row) >= 1:
        return False
    if found is None or expected is None:
        return psnr >= rule.unjudged_psnr
    seam, exact_seam = value_of(row, "seam") or 0.0, value_of(exact, "seam") or 0.0
    return found >= expected - rule.loss and psnr >= rule.psnr and seam <= max(MAX_SEAM, exact_seam)


def write_choice(choice: Choice, report: Report, bundle: Path) -> None:
    """Put the chosen settings into a bundle's manifest, in the place of those that it has.

    Args:
        choice: What was chosen.
        report: What was measured.
        bundle: The bundle's folder.

    Raises:
        BundleError: There is no such bundle, or it is damaged.
    """
    found = {word: _measured(choice.exact, *pair, report) for word, pair in choice.chosen.items()}
    save_manifest(msgspec.structs.replace(load_manifest(bundle), quality=found), bundle)


def _measured(exact: Row, settings: QualitySettings, row: Row, report: Report) -> MeasuredQuality:
    packages = report.machine.packages
    return MeasuredQuality(
        settings=settings,
        exact_steps=int(exact.case["steps"] or 0),
        time_ratio=round(_time(row), 3),
        psnr=round(value_of(row, "psnr") or 0.0, 2),
        backend=str(report.settings["backend"]),
        date=report.date,
        versions={name: packages[name] for name in _PACKAGES if name in packages},
        judged=_judged(exact, row, report),
    )


def _judged(exact: Row, row: Row, report: Report) -> JudgedQuality | None:
    found, expected, seam = (
        value_of(row, "share_found"),
        value_of(exact, "share_found"),
        value_of(row, "seam"),
    )
    cases = report.settings["cases"]
    if found is None or expected is None or seam is None or not isinstance(cases, int):
        return None
    judge = str(report.settings["judge"])
    return JudgedQuality(judge=judge, cases=cases, found=found, exact_found=expected, seam=round(seam, 3))
