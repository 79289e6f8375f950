"""Run Stable Diffusion inpainting from a bundle of engines, without PyTorch."""

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


def __getattr__(name: str) -> str:
    """Read `__version__` when it is asked for."""
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib.metadata import version  # which takes a tenth of the import of `inpaintrt`

    return version("inpaintrt")
