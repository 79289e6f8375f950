"""Run Stable Diffusion inpainting from a bundle of engines, without PyTorch."""

from importlib.metadata import version

from inpaintrt.options import Options
from inpaintrt.output import InpaintOutput, StepEvent, Timings
from inpaintrt.pipeline import InpaintPipeline
from inpaintrt.samplers import sampler_names

__all__ = [
    "InpaintOutput",
    "InpaintPipeline",
    "Options",
    "StepEvent",
    "Timings",
    "__version__",
    "sampler_names",
]

__version__ = version("inpaintrt")
