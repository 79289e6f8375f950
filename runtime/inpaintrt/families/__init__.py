"""Families of checkpoints: what their denoiser is conditioned on."""

from __future__ import annotations

from inpaintrt.bundle import Architecture, Dtype, TensorSpec
from inpaintrt.conditioning import step_inputs
from inpaintrt.families.family import Conditions, Defaults, Family, Start, Texts
from inpaintrt.families.sd import SD
from inpaintrt.families.sdxl import SDXL

__all__ = ["FAMILIES", "SD", "SDXL", "Conditions", "Defaults", "Family", "Start", "Texts", "step_specs"]

FAMILIES = {family.name: family for family in (SD, SDXL)}
"""All families by the names that manifests have."""


def step_specs(family: Family, architecture: Architecture, dtype: Dtype = "float32") -> dict[str, TensorSpec]:
    """The inputs of a step: those of all families, and what this one's denoiser is conditioned on.

    Args:
        family: The bundle's.
        architecture: The bundle's.
        dtype: Element type of the text encoders' outputs.
    """
    return step_inputs(
        architecture.latent_channels,
        architecture.condition_channels,
        family.per_row_inputs(architecture, dtype),
    )
