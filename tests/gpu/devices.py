"""The GPU of a pipeline."""

from inpaintrt.backends.cuda import CudaDevice
from inpaintrt.backends.device_engine import DeviceEngine
from inpaintrt.pipeline import InpaintPipeline

__all__ = ["device_of", "used_memory"]


def device_of(pipe: InpaintPipeline) -> CudaDevice:
    """Where the denoiser runs."""
    engine = pipe.stages.engines["denoiser"]
    assert isinstance(engine, DeviceEngine)
    assert isinstance(engine.device, CudaDevice)
    return engine.device


def used_memory(pipe: InpaintPipeline) -> int:
    """Bytes in use on the GPU, by whomever."""
    free, total = device_of(pipe).free_memory()
    return total - free
