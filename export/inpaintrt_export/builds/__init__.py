"""Builds of a bundle's networks for backends: plans for TensorRT, variants for ONNX Runtime."""

from inpaintrt_export.builds.plans import build_plans
from inpaintrt_export.builds.settings import BuildSettings

__all__ = ["BuildSettings", "build_plans"]
