"""From what a run made to the image that is handed back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from PIL import Image, ImageOps

from inpaintrt.images.masks import Box
from inpaintrt.images.poisson_color_match import match_colors
from inpaintrt.images.resizing import resize, resize_to_cover
from inpaintrt.images.scenes import with_alpha

__all__ = ["Blend", "Overlay", "Paste", "Replacement"]


class Paste(Protocol):
    """A way to hand a result back."""

    def apply(self, result: Image.Image) -> Image.Image:
        """Make the image to hand back of a result (RGB, of the run's size)."""
        ...

    def untouched(self) -> Image.Image:
        """Make the image to hand back if nothing is repainted."""
        ...


@dataclass(frozen=True, eq=False)
class Replacement:
    """The result is handed back as it is."""

    original: Image.Image

    def apply(self, result: Image.Image) -> Image.Image:
        """Hand the result back."""
        return result

    def untouched(self) -> Image.Image:
        """Hand the original back."""
        return self.original


@dataclass(frozen=True, eq=False)
class Overlay:
    """The result is pasted into a box, and the original laid over it through the inverted mask.

    diffusers: `VaeImageProcessor.apply_overlay`.
    """

    original: Image.Image
    mask: Image.Image
    box: Box

    def apply(self, result: Image.Image) -> Image.Image:
        """Paste the result and lay the original over it."""
        kept = Image.new("RGBa", self.original.size)
        kept.paste(self.original.convert("RGBA").convert("RGBa"), mask=ImageOps.invert(self.mask))
        below = Image.new("RGB", self.original.size)
        below.paste(resize_to_cover(result, self.box.size), (self.box.left, self.box.top))
        layers = below.convert("RGBA")
        layers.alpha_composite(kept.convert("RGBA"))
        return layers.convert("RGB")

    def untouched(self) -> Image.Image:
        """Hand the original back."""
        return self.original


@dataclass(frozen=True, eq=False)
class Blend:
    """The result replaces the canvas as far as the mask says; where it is 0 the canvas stays bit by bit.

    Attributes:
        colors: The canvas, mode "RGB".
        alpha: Its transparency, which the result keeps.
        mask: Weight of the result in 1/255, mode "L", of the box's size.
        box: The part of the canvas that ran.
        content: Where in the run it lies.
        reference: The part of the canvas that ran, mode "RGB", of the content's size: the result's colors
            are matched to it around the mask first. None to leave them as they are.
    """

    colors: Image.Image
    alpha: Image.Image | None
    mask: Image.Image
    box: Box
    content: Box
    reference: Image.Image | None

    def apply(self, result: Image.Image) -> Image.Image:
        """Blend the result into the canvas."""
        canvas = self.colors.copy()
        part = result.crop(self.content)
        if self.reference is not None:
            part = match_colors(part, self.reference, self._touched(part.size))
        canvas.paste(resize(part, self.box.size), (self.box.left, self.box.top), self.mask)
        return with_alpha(canvas, self.alpha)

    def _touched(self, size: tuple[int, int]) -> Image.Image:
        """The mask at another size: above 0 wherever the result replaces anything."""
        touched = self.mask.point(lambda weight: 255 if weight else 0)
        return touched.resize(size, Image.Resampling.BOX)

    def untouched(self) -> Image.Image:
        """Hand the canvas back."""
        return with_alpha(self.colors, self.alpha)
