"""Shapes and example values of a network's inputs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from inpaintrt.errors import PlanBuildError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from inpaintrt.bundle import Build, Manifest, TensorSpec

__all__ = ["Shapes", "axis_sizes", "input_shapes", "random_inputs"]

Shapes = dict[str, tuple[int, ...]]
"""The shape of every input by name."""

_SEED: Final = 20_240_301
_TIMESTEPS: Final = 1000


def axis_sizes(
    component: str, resolution: tuple[int, int], factor: int, tokens: int, *, slots: int = 1, rows: int = 1
) -> dict[str, int]:
    """Sizes of the named axes of a component.

    Text encoder and VAE work on one window of a prompt or one image at a time.

    Args:
        component: The component's name.
        resolution: Height and width of the image in pixels.
        factor: Pixels of one latent pixel along each side.
        tokens: Length of the prompts.
        slots: Requests that share a step of the denoiser.
        rows: Rows of the UNet in such a step.
    """
    height, width = resolution
    latent = {"height": height // factor, "width": width // factor}
    match component:
        case "text_encoder" | "text_encoder_2":
            return {"batch": 1, "tokens": tokens}
        case "vae_encoder" | "tiny_vae_encoder":
            return {"batch": 1, "height": height, "width": width}
        case "vae_decoder" | "tiny_vae_decoder":
            return {"batch": 1, **latent}
        case _:
            step = {"slots": slots, "rows": rows, "tokens": tokens, **latent}
            return {**step, "batch": rows, "sequence_length": tokens}


def input_shapes(network: Build, sizes: Mapping[str, int]) -> Shapes:
    """The shape of every input.

    Args:
        network: Whose inputs.
        sizes: Sizes of the named axes.

    Raises:
        PlanBuildError: The network has an axis whose size is not known.
    """
    return {name: _shape(network.component, spec, sizes) for name, spec in network.inputs.items()}


def _shape(component: str, spec: TensorSpec, sizes: Mapping[str, int]) -> tuple[int, ...]:
    unknown = [axis for axis in spec.shape if isinstance(axis, str) and axis not in sizes]
    if unknown:
        raise PlanBuildError(
            f"the component {component!r} has an axis whose size is not known",
            received=", ".join(map(str, unknown)),
            expected=", ".join(sizes),
            hint="export the checkpoint with `inpaintrt export`",
        )
    return tuple(axis if isinstance(axis, int) else sizes[axis] for axis in spec.shape)


def random_inputs(manifest: Manifest, name: str, shapes: Shapes) -> dict[str, NDArray[np.generic]]:
    """Random inputs of an exported network: Gaussian, or uniform for an input of integers.

    Args:
        manifest: The bundle's manifest.
        name: The component's name.
        shapes: The shape of every input.
    """
    tokens = (max(each.start_token, each.end_token, each.pad_token) for each in manifest.tokenizers.values())
    limits = {
        "input_ids": max(tokens) + 1,
        "clip_skip": manifest.architecture.text_layers or 1,
        "row_slot": shapes.get("state", (1,))[0],
        "timestep": _TIMESTEPS,
    }
    generator = np.random.default_rng(_SEED)
    return {
        tensor: (
            generator.integers(limits[tensor], size=shapes[tensor])
            if tensor in limits
            else generator.standard_normal(shapes[tensor])
        ).astype(spec.dtype)
        for tensor, spec in manifest.exported[name].inputs.items()
    }
