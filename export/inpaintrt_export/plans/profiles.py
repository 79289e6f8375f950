"""The shapes that plans run at: static profiles, since plans of varying shapes are slower."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from inpaintrt.backends.shapes import row_buckets
from inpaintrt.errors import ParameterError, PlanBuildError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from inpaintrt.bundle import Architecture, Component, TensorSpec
    from inpaintrt_export.plans.settings import BuildSettings

__all__ = ["Profile", "make_profiles"]

Profile = dict[str, tuple[int, ...]]
_LARGEST_SIDE = 4096


def make_profiles(
    name: str,
    component: Component,
    architecture: Architecture,
    tokens: int,
    settings: BuildSettings,
) -> tuple[Profile, ...]:
    """The profiles of one component.

    Text encoder and VAE work on one window of a prompt or one picture at a time. A denoiser of the form
    "step" always has `max_batch` slots, those of no request standing still, and one profile for each number
    of rows and of windows.

    Raises:
        ParameterError: A resolution is too large, or no multiple of the VAE's factor.
        PlanBuildError: The component has an axis whose size is not known.
    """
    factor = architecture.vae_scale_factor
    resolutions = settings.resolutions or (architecture.native_resolution,)
    for resolution in resolutions:
        _check_resolution(resolution, factor)
    latent = [(height // factor, width // factor) for height, width in resolutions]
    match name:
        case "text_encoder":
            sizes: Sequence[Mapping[str, int]] = [{"batch": 1, "tokens": tokens}]
        case "vae_encoder":
            sizes = [{"batch": 1, "height": height, "width": width} for height, width in resolutions]
        case "vae_decoder":
            sizes = [{"batch": 1, "height": height, "width": width} for height, width in latent]
        case _:
            sizes = list(_denoiser_sizes(latent, tokens, settings))
    return tuple(
        {input_name: _shape(name, spec, size) for input_name, spec in component.inputs.items()}
        for size in sizes
    )


def _denoiser_sizes(
    latent: Sequence[tuple[int, int]], window: int, settings: BuildSettings
) -> Iterator[dict[str, int]]:
    lengths = [window * count for count in range(1, settings.prompt_windows + 1)]
    for (height, width), tokens in itertools.product(latent, lengths):
        for rows in row_buckets(2 * settings.max_batch):
            size = {"slots": settings.max_batch, "tokens": tokens, "height": height, "width": width}
            yield {**size, "rows": rows, "batch": rows, "sequence_length": tokens}


def _shape(name: str, spec: TensorSpec, sizes: Mapping[str, int]) -> tuple[int, ...]:
    unknown = [axis for axis in spec.shape if isinstance(axis, str) and axis not in sizes]
    if unknown:
        raise PlanBuildError(
            f"the component {name!r} has an axis whose size is not known",
            received=", ".join(map(str, unknown)),
            expected=", ".join(sizes),
            hint="export the checkpoint with `inpaintrt export`",
        )
    return tuple(axis if isinstance(axis, int) else sizes[axis] for axis in spec.shape)


def _check_resolution(resolution: tuple[int, int], factor: int) -> None:
    height, width = resolution
    if not all(0 < side <= _LARGEST_SIDE and side % factor == 0 for side in resolution):
        raise ParameterError(
            "plans cannot be built for this picture size",
            received=f"{width}x{height}",
            expected=f"multiples of {factor}, at most {_LARGEST_SIDE}",
        )
