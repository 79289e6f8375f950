import os
import signal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from bundles import make_onnx_folder, make_tiny_bundle, make_tiny_checkpoint

# The same examples in every run, however slow the machine is.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")

# A shell starts jobs in the background with Ctrl-C ignored, which the commands under test would inherit.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_configure(config: pytest.Config) -> None:
    """Divide the processors among the workers, which inherit this: threads that wait for one keep it busy."""
    workers = config.getoption("numprocesses", default=None)
    if workers:
        os.environ.setdefault("OMP_NUM_THREADS", str(max((os.cpu_count() or 1) // workers, 1)))


@pytest.fixture(scope="session")
def bundle_cache(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the workers of a run share, and that outlives it unless pytest runs without its cache."""
    cache: Any = getattr(request.config, "cache", None)  # absent where its plugin is switched off
    if cache is not None:
        return Path(cache.mkdir("bundles"))
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # each worker's own folder lies in that of the run
    (folder / "bundles").mkdir(exist_ok=True)
    return folder / "bundles"


@pytest.fixture(scope="session")
def tiny_checkpoint(bundle_cache: Path) -> Path:
    """A diffusers folder: 9-channel UNet, VAE of factor 8, CLIP text encoder; small, with random weights."""
    return make_tiny_checkpoint(bundle_cache)


@pytest.fixture(scope="session")
def tiny_bundle(bundle_cache: Path) -> Path:
    """The fp32 bundle of `tiny_checkpoint`."""
    return make_tiny_bundle(bundle_cache)


@pytest.fixture(scope="session")
def tiny_half_bundle(bundle_cache: Path) -> Path:
    """The fp16 bundle of `tiny_checkpoint`."""
    return make_tiny_bundle(bundle_cache, "fp16")


@pytest.fixture(scope="session")
def tiny_onnx_folder(bundle_cache: Path) -> Path:
    """`tiny_checkpoint` as plain ONNX files, laid out as optimum lays them out."""
    return make_onnx_folder(bundle_cache)


@pytest.fixture(scope="session")
def tiny_text_to_image_checkpoint(bundle_cache: Path) -> Path:
    """A diffusers folder like `tiny_checkpoint`, with a 4-channel UNet."""
    return make_tiny_checkpoint(bundle_cache, "tiny-text-to-image")


@pytest.fixture(scope="session")
def tiny_text_to_image_bundle(bundle_cache: Path) -> Path:
    """The fp32 bundle of `tiny_text_to_image_checkpoint`."""
    return make_tiny_bundle(bundle_cache, name="tiny-text-to-image")


@pytest.fixture(scope="session")
def tiny_sdxl_checkpoint(bundle_cache: Path) -> Path:
    """A diffusers folder of SDXL: two text encoders, 4-channel UNet; small, with random weights."""
    return make_tiny_checkpoint(bundle_cache, "tiny-sdxl")


@pytest.fixture(scope="session")
def tiny_sdxl_bundle(bundle_cache: Path) -> Path:
    """The fp32 bundle of `tiny_sdxl_checkpoint`."""
    return make_tiny_bundle(bundle_cache, name="tiny-sdxl")


@pytest.fixture(scope="session")
def tiny_sdxl_inpainting_checkpoint(bundle_cache: Path) -> Path:
    """A diffusers folder like `tiny_sdxl_checkpoint`, with a 9-channel UNet."""
    return make_tiny_checkpoint(bundle_cache, "tiny-sdxl-inpaint")


@pytest.fixture(scope="session")
def tiny_sdxl_inpainting_bundle(bundle_cache: Path) -> Path:
    """The fp32 bundle of `tiny_sdxl_inpainting_checkpoint`."""
    return make_tiny_bundle(bundle_cache, name="tiny-sdxl-inpaint")


@pytest.fixture(scope="session")
def tiny_sdxl_refiner_checkpoint(bundle_cache: Path) -> Path:
    """A diffusers folder of a refiner: the second text encoder alone, a 4-channel UNet, a score."""
    return make_tiny_checkpoint(bundle_cache, "tiny-sdxl-refiner")


@pytest.fixture(scope="session")
def tiny_sdxl_refiner_bundle(bundle_cache: Path) -> Path:
    """The fp32 bundle of `tiny_sdxl_refiner_checkpoint`."""
    return make_tiny_bundle(bundle_cache, name="tiny-sdxl-refiner")


@pytest.fixture(scope="session")
def tiny_sdxl_half_bundle(bundle_cache: Path) -> Path:
    """The fp16 bundle of `tiny_sdxl_checkpoint`."""
    return make_tiny_bundle(bundle_cache, "fp16", "tiny-sdxl")
