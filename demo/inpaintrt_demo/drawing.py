"""Soft-edged shapes, drawn with NumPy from signed distances."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Color = tuple[float, float, float]
Box = tuple[float, float, float, float]

EDGE_WIDTH = 1.5  # pixels over which a shape fades into what lies behind it


class Shape(Protocol):
    """A region of the plane."""

    def distance(self, across: Array, down: Array) -> Array:
        """Return the signed distance to the outline, negative inside, in the units of the coordinates."""
        ...


@dataclass(frozen=True)
class Ellipse:
    """An axis-aligned ellipse."""

    center: tuple[float, float]
    radius: tuple[float, float]

    def distance(self, across: Array, down: Array) -> Array:
        """Return the signed distance, exact for circles and on the outline."""
        scaled = np.hypot(
            (across - self.center[0]) / self.radius[0], (down - self.center[1]) / self.radius[1]
        )
        return np.asarray((scaled - 1) * min(self.radius), np.float32)


@dataclass(frozen=True)
class Polygon:
    """A convex polygon, its corners listed clockwise as seen on the screen."""

    corners: tuple[tuple[float, float], ...]

    def distance(self, across: Array, down: Array) -> Array:
        """Return the largest distance to any side's line: exact inside, slightly small outside corners."""
        ends = self.corners[1:] + self.corners[:1]
        sides = [
            ((across - x0) * (y1 - y0) - (down - y0) * (x1 - x0)) / np.hypot(x1 - x0, y1 - y0)
            for (x0, y0), (x1, y1) in zip(self.corners, ends, strict=True)
        ]
        return np.asarray(np.max(sides, axis=0), np.float32)


@dataclass(frozen=True)
class Union:
    """Several shapes as one."""

    shapes: tuple[Shape, ...]

    def distance(self, across: Array, down: Array) -> Array:
        """Return the distance to the nearest of the shapes."""
        return np.asarray(np.min([shape.distance(across, down) for shape in self.shapes], axis=0), np.float32)


@dataclass(frozen=True)
class Difference:
    """One shape with another cut out of it."""

    kept: Shape
    removed: Shape

    def distance(self, across: Array, down: Array) -> Array:
        """Return the distance to what is left."""
        return np.maximum(self.kept.distance(across, down), -self.removed.distance(across, down))


@dataclass(frozen=True)
class Part:
    """A shape, its color (0 to 1), and how much darker it becomes to the right and to the bottom."""

    shape: Shape
    color: Color
    shade: tuple[float, float] = (0.0, 0.0)


def rectangle(left: float, top: float, right: float, bottom: float) -> Polygon:
    """Return an axis-aligned rectangle."""
    return Polygon(((left, top), (right, top), (right, bottom), (left, bottom)))


def grid(size: int) -> tuple[Array, Array]:
    """Return the horizontal and vertical coordinates, 0 to 1, of the pixel centres; each [size, size]."""
    line = (np.arange(size, dtype=np.float32) + 0.5) / size
    down, across = np.meshgrid(line, line, indexing="ij")
    return across.astype(np.float32), down.astype(np.float32)


def blend(image: Array, coverage: Array, color: Array) -> None:
    """Lay a color, [3] or [height, width, 3], over the image [height, width, 3] where it covers."""
    image += coverage[..., None] * (color - image)


def draw_parts(image: Array, parts: Sequence[Part], box: Box, light: Color) -> None:
    """Draw parts, given in coordinates -1 to 1 of the square box (0 to 1 of the image), lowest first."""
    size = image.shape[0]
    across, down = grid(size)
    left, top, right, bottom = box
    across = (across - left) / (right - left) * 2 - 1
    down = (down - top) / (bottom - top) * 2 - 1
    pixel = 2 / ((right - left) * size)
    for part in parts:
        coverage = np.clip(0.5 - part.shape.distance(across, down) / (EDGE_WIDTH * pixel), 0, 1)
        darker = 1 - part.shade[0] * (across + 1) / 2 - part.shade[1] * (down + 1) / 2
        color = (
            np.clip(darker, 0, 1)[..., None]
            * np.asarray(part.color, np.float32)
            * np.asarray(light, np.float32)
        )
        blend(image, coverage, np.asarray(color, np.float32))
