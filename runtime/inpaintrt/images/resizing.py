"""Bringing an image to the size of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from inpaintrt.images.regions import fit, overfill

if TYPE_CHECKING:
    from inpaintrt.images.masks import Box

__all__ = ["reflect_to", "resize", "resize_to_cover", "resize_to_fit", "stretch_edges"]


def resize(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Stretch to a size (width, height) with a Lanczos filter (diffusers' resize mode "default")."""
    return image if image.size == size else image.resize(size, Image.Resampling.LANCZOS)


def resize_to_fit(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Fit into a frame, and fill what is left of it with the edges (diffusers' resize mode "fill")."""
    place = fit(image.size, size)
    return stretch_edges(resize(image, place.size), place, size)


def stretch_edges(image: Image.Image, place: Box, size: tuple[int, int]) -> Image.Image:
    """Put an image at its place in a frame, and stretch its outermost rows or columns over the rest."""
    frame = Image.new(image.mode, size)
    frame.paste(image, (place.left, place.top))
    if place.top > 0:
        _stretch_row(frame, image, 0, (0, place.top))
        _stretch_row(frame, image, image.height, (place.bottom, place.bottom + place.top))
    if place.left > 0:
        _stretch_column(frame, image, 0, (0, place.left))
        _stretch_column(frame, image, image.width, (place.right, place.right + place.left))
    return frame


def _stretch_row(frame: Image.Image, image: Image.Image, edge: int, rows: tuple[int, int]) -> None:
    """Stretch an edge of the image over rows of the frame, which may end outside it."""
    size = image.width, rows[1] - rows[0]
    frame.paste(image.resize(size, box=(0, edge, image.width, edge)), (0, rows[0]))


def _stretch_column(frame: Image.Image, image: Image.Image, edge: int, columns: tuple[int, int]) -> None:
    size = columns[1] - columns[0], image.height
    frame.paste(image.resize(size, box=(edge, 0, edge, image.height)), (columns[0], 0))


def resize_to_cover(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Cover a frame, and cut what hangs over (diffusers' resize mode "crop")."""
    place = overfill(image.size, size)
    frame = Image.new(image.mode, size)
    frame.paste(resize(image, place.size), (place.left, place.top))
    return frame


def reflect_to(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Extend to the right and to the bottom by reflection."""
    if image.size == size:
        return image
    values = np.asarray(image)
    padding = [(0, size[1] - image.height), (0, size[0] - image.width), (0, 0)]
    return Image.fromarray(np.pad(values, padding[: values.ndim], mode="reflect"))
