"""Conversions of a bundle's networks to another precision, as the manifest records them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from inpaintrt.bundle import CACHED_FEATURE, TINY_VAE, VAE, network_digest, number_format
from inpaintrt.errors import ParameterError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from inpaintrt.bundle import Build, Manifest, Precision, TensorSpec

__all__ = [
    "HALF_REVISION",
    "check_precision",
    "choose_source",
    "describe_half",
    "find_conversion",
    "kept_tensors",
]

HALF_REVISION = 1
"""Of the conversion to half precision: to be raised with every change that changes its results."""


def kept_tensors(network: Build) -> tuple[str, ...]:
    """Inputs and outputs that stay float32 in half precision.

    Half are the embeddings of a prompt's tokens, what step caching keeps, and the latents of a plain UNet. An
    export in half precision takes pooled prompts as halves, too.
    """
    names = (*network.inputs, *network.outputs)
    if network.component in (*VAE, *TINY_VAE):
        return names
    if network.form == "step":
        return tuple(tensor for tensor in names if tensor not in ("context", CACHED_FEATURE))
    return tuple(tensor for tensor in names if tensor == "timestep")


def describe_half(manifest: Manifest, name: str) -> Build:
    """A component's network in half precision, which nothing is compared with yet."""
    exported = manifest.exported[name]
    kept = kept_tensors(exported)
    return msgspec.structs.replace(
        exported,
        precision="fp16",
        inputs=_half_specs(exported.inputs, kept),
        outputs=_half_specs(exported.outputs, kept),
        files=(),
        network_sha256=network_digest(manifest, name),
        revision=HALF_REVISION,
        parity=(),
        activations=None,
        weights={},
        transposed=(),
    )


def _half_specs(specs: Mapping[str, TensorSpec], kept: tuple[str, ...]) -> dict[str, TensorSpec]:
    return {
        tensor: msgspec.structs.replace(spec, dtype="float16")
        if spec.dtype == "float32" and tensor not in kept
        else spec
        for tensor, spec in specs.items()
    }


def find_conversion(manifest: Manifest, name: str, precision: Precision = "fp16") -> Build | None:
    """The conversion of this very network to a precision, if it was checked before."""
    wanted = (name, None, precision, network_digest(manifest, name), HALF_REVISION)
    for build in manifest.builds:
        found = (build.component, build.backend, build.precision, build.network_sha256, build.revision)
        if found == wanted:
            return build
    return None


def choose_source(manifest: Manifest, name: str, precision: Precision) -> Build:
    """The ONNX network that a build in `precision` is made of.

    It is the exported network where that has the precision already, or where its conversion was not accepted.
    """
    exported, conversion = manifest.exported[name], find_conversion(manifest, name, precision)
    if precision == exported.precision or conversion is None or not conversion.accepted:
        return exported
    return conversion


def check_precision(manifest: Manifest, precision: Precision) -> None:
    """Check that networks of a precision can be had of a bundle.

    Raises:
        ParameterError: The precision is unknown, or finer than that of the bundle.
    """
    own = manifest.precision
    if number_format(precision).weight_bytes > number_format(own).weight_bytes:
        raise ParameterError(
            f"the bundle {manifest.name!r} computes in {own}, and what that rounded away does not come back",
            received=f"precision {precision}",
            expected=f"precision {own}",
            hint=f"export the checkpoint with --precision {precision}, or build with --precision {own}",
        )
