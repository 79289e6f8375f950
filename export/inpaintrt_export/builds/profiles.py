"""The shapes that plans run at: static profiles, since plans of varying shapes are slower."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from inpaintrt.backends.shapes import row_buckets
from inpaintrt.bundle import SHALLOW_DENOISER
from inpaintrt.errors import ParameterError
from inpaintrt_export.graphs.inputs import axis_sizes, input_shapes

if TYPE_CHECKING:
    from inpaintrt.bundle import Architecture, Build
    from inpaintrt_export.builds.settings import BuildSettings
    from inpaintrt_export.graphs.inputs import Shapes

__all__ = ["make_profiles"]

_LARGEST_SIDE = 4096


def make_profiles(
    network: Build, architecture: Architecture, window: int, settings: BuildSettings
) -> tuple[Shapes, ...]:
    """The shapes of all inputs, for each profile of a plan.

    Text encoder and VAE work on one window of a prompt or one image at a time. A denoiser of the form
    "step" always has `max_batch` slots, those of no request included, and one profile for each number
    of rows and of windows; its shallow form may see no prompt, and then needs one for each number of rows.

    Args:
        network: What the plan is made of.
        architecture: Of the checkpoint.
        window: Tokens of one window of a prompt.
        settings: What the plan is for.

    Raises:
        ParameterError: A resolution is too large, or no multiple of the VAE's factor.
        PlanBuildError: The network has an axis whose size is not known.
    """
    factor = architecture.vae_scale_factor
    resolutions = settings.resolutions or (architecture.native_resolution,)
    for resolution in resolutions:
        _check_resolution(resolution, factor)
    windows, rows = [1], [1]
    if network.component == "text_encoder":
        resolutions = resolutions[:1]
    elif network.component in ("denoiser", SHALLOW_DENOISER):
        if any("tokens" in spec.shape for spec in network.inputs.values()):
            windows = list(range(1, settings.prompt_windows + 1))
        rows = list(row_buckets(2 * settings.max_batch))
    return tuple(
        input_shapes(
            network,
            axis_sizes(
                network.component,
                resolution,
                factor,
                window * count,
                slots=settings.max_batch,
                rows=bucket,
            ),
        )
        for resolution, count, bucket in itertools.product(resolutions, windows, rows)
    )


def _check_resolution(resolution: tuple[int, int], factor: int) -> None:
    height, width = resolution
    if not all(0 < side <= _LARGEST_SIDE and side % factor == 0 for side in resolution):
        raise ParameterError(
            "plans cannot be built for this image size",
            received=f"{width}x{height}",
            expected=f"multiples of {factor}, at most {_LARGEST_SIDE}",
        )
