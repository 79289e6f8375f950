"""Plans: the networks of a bundle, compiled by TensorRT or TensorRT-RTX."""

from inpaintrt_export.plans.building import build_plans
from inpaintrt_export.plans.settings import BuildSettings

__all__ = ["BuildSettings", "build_plans"]
