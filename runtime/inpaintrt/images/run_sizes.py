"""The sizes that a run can have."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from inpaintrt.errors import ParameterError
from inpaintrt.images.regions import nearest_multiple

if TYPE_CHECKING:
    from inpaintrt.options import Options

__all__ = ["RunSizes", "Size", "nearest_size"]

Size = tuple[int, int]


@dataclass(frozen=True)
class RunSizes:
    """What a checkpoint and its engines allow; every size is width and height in pixels.

    Attributes:
        native: What the checkpoint was trained at.
        multiple: What the sides of a run are multiples of.
        built: The sizes that the engines were built for; empty if they take any.
    """

    native: Size
    multiple: int
    built: tuple[Size, ...] = ()

    def runs(self, size: Size) -> bool:
        """Whether the engines take a size."""
        return not self.built or size in self.built

    def check(self, run: Size) -> None:
        """Refuse a size that the networks cannot have, or that no engine was built for.

        Raises:
            ParameterError: The size is off the latent grid, or not among those built.
        """
        if run[0] % self.multiple or run[1] % self.multiple:
            raise ParameterError(
                "height and width must fit the latent grid",
                received=f"height={run[1]}, width={run[0]}",
                expected=f"multiples of {self.multiple}",
                hint=f"for example height={nearest_multiple(run[1], self.multiple)}, "
                f"width={nearest_multiple(run[0], self.multiple)}",
                parameter="height" if run[1] % self.multiple else "width",
            )
        if not self.runs(run):
            raise ParameterError(
                "no plan was built for this image size",
                received=f"height={run[1]}, width={run[0]}",
                expected=" or ".join(f"height={height}, width={width}" for width, height in self.built),
                hint=f"give a size that was built, or add this one: `inpaintrt build` with "
                f"--resolution {run[0]}x{run[1]}",
                parameter="height",
            )

    def asked(self, options: Options) -> Size:
        """The size that `height` and `width` ask for; what is left out is native.

        Raises:
            ParameterError: As for `check`.
        """
        run = options["width"] or self.native[0], options["height"] or self.native[1]
        self.check(run)
        return run

    def output(self, canvas: Size, options: Options) -> Size | None:
        """The size that everything is stretched to; None if it keeps its own.

        Raises:
            ParameterError: As for `check`.
        """
        width, height = options["width"], options["height"]
        if options["padding_mask_crop"] is not None:
            return None
        if width is None:
            if height is None:
                return None
            width = nearest_multiple(canvas[0] * height / canvas[1], self.multiple)
        if height is None:
            height = nearest_multiple(canvas[1] * width / canvas[0], self.multiple)
        self.check((width, height))
        return width, height


def nearest_size(ideal: Size, sizes: tuple[Size, ...]) -> Size:
    """The size whose area and proportions are closest to the ideal; proportions count twice."""

    def distance(size: Size) -> float:
        area = size[0] * size[1] / (ideal[0] * ideal[1])
        proportion = size[0] * ideal[1] / (size[1] * ideal[0])
        return abs(math.log(area)) + 2 * abs(math.log(proportion))

    return min(sizes, key=distance)
