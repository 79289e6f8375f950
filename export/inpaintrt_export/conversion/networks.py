"""What half precision makes of a bundle's networks, as the manifest describes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from inpaintrt.bundle import network_digest
from inpaintrt.errors import ParameterError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from inpaintrt.bundle import Component, Conversion, Manifest, Precision, TensorSpec

__all__ = [
    "HALF_REVISION",
    "check_precision",
    "chosen_network",
    "find_conversion",
    "half_component",
    "kept_tensors",
]

HALF_REVISION = 1
"""Of the conversion to half precision: to be raised with every change that changes its results."""

_VAE = ("vae_encoder", "vae_decoder")


def kept_tensors(name: str, component: Component) -> tuple[str, ...]:
    """Inputs and outputs that stay float32 in half precision, as in an export in half precision.

    Half are a prompt's embeddings, and the latents of a plain UNet.
    """
    names = (*component.inputs, *component.outputs)
    if name in _VAE:
        return names
    if component.form == "step":
        return tuple(tensor for tensor in names if tensor != "context")
    return tuple(tensor for tensor in names if tensor == "timestep")


def half_component(name: str, component: Component) -> Component:
    """The description of a component after conversion; what it is compared with is left open."""
    kept = kept_tensors(name, component)
    return msgspec.structs.replace(
        component,
        precision="fp16",
        inputs=_half_specs(component.inputs, kept),
        outputs=_half_specs(component.outputs, kept),
        parity=(),
    )


def _half_specs(specs: Mapping[str, TensorSpec], kept: tuple[str, ...]) -> dict[str, TensorSpec]:
    return {
        tensor: msgspec.structs.replace(spec, dtype="float16")
        if spec.dtype == "float32" and tensor not in kept
        else spec
        for tensor, spec in specs.items()
    }


def find_conversion(manifest: Manifest, name: str) -> Conversion | None:
    """What an earlier conversion of this very network found, if there was one."""
    digest = network_digest(manifest, name)
    for conversion in manifest.conversions:
        known = conversion.component, conversion.network_sha256, conversion.revision
        if known == (name, digest, HALF_REVISION):
            return conversion
    return None


def chosen_network(manifest: Manifest, name: str, precision: Precision) -> tuple[Component, int]:
    """The network that a build in `precision` takes, and the revision of its conversion.

    The revision is 0 for the bundle's own network: where it has the precision already, or where its
    conversion was not found good.
    """
    component = manifest.components[name]
    conversion = find_conversion(manifest, name)
    if precision == component.precision or conversion is None or conversion.precision == component.precision:
        return component, 0
    return half_component(name, component), HALF_REVISION


def check_precision(manifest: Manifest, precision: Precision) -> None:
    """Check that networks of a precision can be had of a bundle.

    Raises:
        ParameterError: The bundle computes in fp16, and fp32 is asked for.
    """
    own = manifest.components["denoiser"].precision
    if (own, precision) == ("fp16", "fp32"):
        raise ParameterError(
            f"the bundle {manifest.name!r} computes in fp16, and what that rounded away does not come back",
            received="precision fp32",
            expected="precision fp16",
            hint="export the checkpoint with --precision fp32, or build with --precision fp16",
        )
