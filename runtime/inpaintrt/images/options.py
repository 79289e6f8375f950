"""What a caller may ask of the pictures."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from inpaintrt.errors import ParameterError

__all__ = ["Compat", "Fill", "ImageOptions"]

Fill: TypeAlias = Literal["original", "grey", "noise", "blur"]
Compat: TypeAlias = Literal["diffusers"]

_MAX_SIDE = 16384
_MAX_BLUR = 512.0
_MAX_GROW = 4096


@dataclass(frozen=True)
class ImageOptions:
    """How a picture and its mask become tensors, and the result becomes a picture again.

    Without `height`, `width` and `padding_mask_crop` a picture runs at its own size where it fits the
    checkpoint's native size; of a larger one only the surroundings of the mask run. The result always has the
    source's size then. With `height` or `width` the picture is stretched and the result has that size; if
    only one is given, the other keeps the picture's proportions (nearest multiple of 8). With
    `padding_mask_crop` the mask's bounding box runs at `height` x `width` (or the native size), and the
    result has the source's size.

    Args:
        height: Height of the run in pixels, a multiple of 8.
        width: Width of the run in pixels, a multiple of 8.
        padding_mask_crop: Run only the mask's bounding box with so many pixels around it.
        mask_blur: Standard deviation in pixels of a Gaussian blur of the mask: where it ends up soft, the
            result is blended. The model repaints where it is at least one half.
        mask_grow: Pixels by which the mask grows on every side (square neighbourhood); a negative number
            shrinks.
        mask_invert: Repaint the black pixels in place of the white ones.
        fill: What the first image holds under the mask, which matters for a strength below 1: the original,
            mid grey, noise (drawn in latent space by the pipeline), or the blurred surroundings.
        match_colours: Shift the result's colours so that they meet the picture's at the mask's edge, which
            hides the shift that the VAE makes everywhere.
        margins: Pixels (left, top, right, bottom) by which the canvas grows; the new area is repainted.
        compat: "diffusers" follows StableDiffusionInpaintPipeline bit by bit: the picture is stretched to
            `height` x `width` (default native) and nothing is pasted back unless `padding_mask_crop` is
            given.

    Raises:
        ParameterError: A value is out of its range, or `compat` meets an option that diffusers does not have.
    """

    height: int | None = None
    width: int | None = None
    padding_mask_crop: int | None = None
    mask_blur: float = 0.0
    mask_grow: int = 0
    mask_invert: bool = False
    fill: Fill = "original"
    match_colours: bool = True
    margins: tuple[int, int, int, int] = (0, 0, 0, 0)
    compat: Compat | None = None

    def __post_init__(self) -> None:
        if self.height is not None:
            _check_integer("height", self.height, 8, _MAX_SIDE)
        if self.width is not None:
            _check_integer("width", self.width, 8, _MAX_SIDE)
        if self.padding_mask_crop is not None:
            _check_integer("padding_mask_crop", self.padding_mask_crop, 0, _MAX_SIDE)
        _check_blur(self.mask_blur)
        _check_integer("mask_grow", self.mask_grow, -_MAX_GROW, _MAX_GROW)
        _check_choice("fill", self.fill, get_args(Fill))
        _check_choice("compat", self.compat, (None, *get_args(Compat)))
        self._check_margins()
        self._check_compat()

    def _check_margins(self) -> None:
        if not isinstance(self.margins, tuple) or len(self.margins) != 4:
            raise ParameterError(
                "margins are four numbers",
                received=self.margins,
                expected="a tuple (left, top, right, bottom)",
            )
        for margin in self.margins:
            _check_integer("every margin", margin, 0, _MAX_SIDE)

    def _check_compat(self) -> None:
        if self.compat is not None and (self.fill != "original" or any(self.margins)):
            raise ParameterError(
                "diffusers has neither fills nor margins",
                received=f"fill={self.fill!r}, margins={self.margins}",
                expected='fill="original", margins=(0, 0, 0, 0)',
                hint="leave compat out to use them",
            )


def _check_integer(name: str, value: object, lowest: int, highest: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not lowest <= value <= highest:
        raise ParameterError(
            f"{name} is out of range", received=repr(value), expected=f"an integer from {lowest} to {highest}"
        )


def _check_blur(value: object) -> None:
    number = value if isinstance(value, (int, float)) and not isinstance(value, bool) else math.nan
    if not 0 <= number <= _MAX_BLUR:
        raise ParameterError(
            "mask_blur is out of range", received=repr(value), expected=f"a number from 0 to {_MAX_BLUR:g}"
        )


def _check_choice(name: str, value: object, choices: tuple[object, ...]) -> None:
    if value not in choices:
        raise ParameterError(
            f"{name} is unknown",
            received=repr(value),
            expected=" or ".join(repr(choice) for choice in choices),
        )
