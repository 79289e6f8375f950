"""What the engines of a bundle were built for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol, runtime_checkable

from inpaintrt.backends.engine import Engine
from inpaintrt.backends.shapes import Shapes
from inpaintrt.bundle import SHALLOW_DENOISER
from inpaintrt.errors import PlanError

__all__ = ["FixedShapes", "image_sizes"]

# The tensor that has an image's height and width as its last axes.
_IMAGES = ("latent_sample", "sample", "state")


@runtime_checkable
class FixedShapes(Protocol):
    """An engine that was built for some shapes, or has limits of its own."""

    @property
    def profiles(self) -> Sequence[Shapes]:
        """All shapes of inputs that the engine was built for; empty if it takes any."""
        ...

    def fit(self, shapes: Shapes) -> Shapes:
        """The shapes to run at, none smaller than those given; some inputs may be left out.

        Raises:
            EngineInputError: The engine was built for others.
        """
        ...


def image_sizes(engines: Mapping[str, Engine], factor: int) -> tuple[tuple[int, int], ...]:
    """Heights and widths in pixels that all engines of a bundle were built for; empty if they take any.

    Args:
        engines: The components by name.
        factor: Pixels of one latent pixel along each side.

    Raises:
        PlanError: They have no size in common.
    """
    scales = {"vae_encoder": 1, "denoiser": factor, SHALLOW_DENOISER: factor, "vae_decoder": factor}
    scales |= {"tiny_vae_encoder": 1, "tiny_vae_decoder": factor}
    found = {
        name: list(dict.fromkeys(_sizes(engines[name], scale)))
        for name, scale in scales.items()
        if name in engines
    }
    built = [sizes for sizes in found.values() if sizes]
    common = tuple(size for size in built[0] if all(size in sizes for sizes in built)) if built else ()
    if built and not common:
        raise PlanError(
            "the plans have no image size in common",
            received="; ".join(f"{name} {_describe(sizes)}" for name, sizes in found.items()),
            expected="one size that the plans of all components were built for",
            hint="build them again, with `inpaintrt build`",
        )
    return common


def _sizes(engine: Engine, scale: int) -> Iterator[tuple[int, int]]:
    for profile in engine.profiles if isinstance(engine, FixedShapes) else ():
        height, width = next(profile[name] for name in _IMAGES if name in profile)[-2:]
        yield scale * height, scale * width


def _describe(sizes: Sequence[tuple[int, int]]) -> str:
    return ", ".join(f"{width}x{height}" for height, width in sizes) or "any"
