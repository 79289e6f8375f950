"""Judges: scenes to paint, and whether an image shows what its prompt asks for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Protocol

import numpy as np
from PIL import Image

from inpaintrt.bundle import Manifest, load_manifest
from inpaintrt.demo import load_scene
from inpaintrt.errors import BundleNotFoundError, InpaintError, ParameterError
from inpaintrt.store import find_bundle
from inpaintrt_bench.report.schema import Scalar

if TYPE_CHECKING:
    from inpaintrt_demo.cases import Case
    from inpaintrt_demo.classifier import Classifier

__all__ = [
    "NO_JUDGE",
    "Judge",
    "Judgments",
    "Scene",
    "default_judge",
    "load_judge",
    "plain_scenes",
    "standard_error",
]

NO_JUDGE = "none"
_DEMO = "demo"


@dataclass(frozen=True)
class Scene:
    """What to paint.

    Attributes:
        prompt: What the prompt asks for.
        image: The source.
        mask: White where to paint; of the same size.
    """

    prompt: str
    image: Image.Image
    mask: Image.Image


class Judge(Protocol):
    """Tells what painted scenes show; made by the function that `--judge MODULE:FUNCTION` names."""

    @property
    def name(self) -> str:
        """What reports call it."""
        ...

    @property
    def scenes(self) -> Sequence[Scene]:
        """What to paint; scene i is painted with the seed i."""
        ...

    def found(self, index: int, image: Image.Image) -> bool:
        """Whether the painted scene shows what its prompt asks for."""
        ...

    def edge_steps(self, index: int, image: Image.Image) -> tuple[float, float]:
        """The mean step across the edge of a scene's mask, in the painted image and in the source."""
        ...


@dataclass
class Judgments:
    """What a judge said so far of the images of one setting."""

    found: list[bool] = field(default_factory=list)
    edges: list[tuple[float, float]] = field(default_factory=list)

    def add(self, judge: Judge, index: int, image: Image.Image) -> None:
        """Let the judge look at a painted scene."""
        self.found.append(judge.found(index, image))
        self.edges.append(judge.edge_steps(index, image))

    @property
    def values(self) -> dict[str, Scalar]:
        """Values of a row; none where no judge has looked.

        `share_found` is from 0 to 1, `standard_error` that of the share, and `seam` the step across the
        masks' edges, relative to the sources'.
        """
        if not self.found:
            return {}
        share = float(np.mean(self.found))
        painted, sources = np.mean(self.edges, axis=0)
        return {
            "share_found": share,
            "standard_error": standard_error(share, len(self.found)),
            "seam": float(painted / sources),
        }


def standard_error(share: float, count: int) -> float:
    """The standard deviation of a share of so many independent cases, as a binomial distribution has it."""
    return math.sqrt(share * (1 - share) / count)


class _DemoJudge:
    """The demo's unseen scenes, and its classifier."""

    name = _DEMO

    def __init__(self, cases: Sequence[Case], classifier: Classifier) -> None:
        self._cases, self._classifier = cases, classifier
        self.scenes = [Scene(case.prompt, case.image, case.mask) for case in cases]

    def found(self, index: int, image: Image.Image) -> bool:
        from inpaintrt_demo.evaluation import found_in

        return found_in(self._classifier, [image], [self._cases[index]]) == 1

    def edge_steps(self, index: int, image: Image.Image) -> tuple[float, float]:
        from inpaintrt_demo.evaluation import edge_gradient

        case = self._cases[index]
        return edge_gradient(image, case.mask), edge_gradient(case.image, case.mask)


def default_judge(manifest: Manifest) -> str:
    """The judge of a bundle where none is named: the demo's for the demo checkpoint, else none."""
    try:
        demo = load_manifest(find_bundle(_DEMO))
    except BundleNotFoundError:
        return NO_JUDGE
    return _DEMO if manifest.checkpoint.sha256 == demo.checkpoint.sha256 else NO_JUDGE


def load_judge(name: str, count: int) -> Judge | None:
    """The judge of a name.

    Args:
        name: "demo", "none", or `MODULE:FUNCTION`.
        count: How many scenes there are to be.

    Returns:
        The judge; None for "none".

    Raises:
        ParameterError: There is no such function.
        InpaintError: The demo's scenes and classifier are missing, which only a source checkout has.
    """
    if name == NO_JUDGE:
        return None
    if name == _DEMO:
        return _load_demo(count)
    module, _, function = name.partition(":")
    try:
        judge: Judge = getattr(import_module(module), function)(count)
    except (ImportError, AttributeError, ValueError) as error:
        raise ParameterError(
            "there is no such judge",
            received=f"{name}: {error}",
            expected="demo, none, or MODULE:FUNCTION of a function that takes the number of scenes",
            parameter="judge",
        ) from error
    return judge


def _load_demo(count: int) -> _DemoJudge:
    try:
        from inpaintrt_demo.cases import evaluation_cases
        from inpaintrt_demo.classifier import load_classifier
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "inpaintrt_demo":
            raise
        raise InpaintError(
            "the demo's scenes and the classifier of its results are not installed",
            expected="a source checkout of inpaintrt, which has them in the folder demo",
            hint="install the checkout with `pip install -e '.[cpu,export,bench]'`, or use --judge none",
        ) from error
    return _DemoJudge(evaluation_cases(count), load_classifier())


def plain_scenes(count: int, size: tuple[int, int]) -> list[Scene]:
    """The demo's scene stretched to a size, its prompts taking turns: for checkpoints that nothing judges.

    Args:
        count: How many scenes.
        size: Width and height in pixels.
    """
    demo = load_scene()
    image = demo.image.resize(size, Image.Resampling.BICUBIC)
    mask = demo.mask.resize(size, Image.Resampling.NEAREST)
    prompts = demo.script.prompts
    return [Scene(prompts[index % len(prompts)], image, mask) for index in range(count)]
