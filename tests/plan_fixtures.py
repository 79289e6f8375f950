"""Plans of the tiny bundle, built once for a state of the exporter and then kept."""

import shutil
from pathlib import Path

import pytest

from bundles import made_once, source_key
from inpaintrt.backends.tensorrt_library import PlanLibrary, load_library
from inpaintrt.errors import EngineUnavailableError
from inpaintrt_export.builds import BuildSettings, build_plans

__all__ = ["TINY", "planned_bundle", "rtx"]

TINY = BuildSettings("tensorrt-rtx", targets=("sm89",), max_batch=1)


@pytest.fixture(scope="session")
def rtx() -> PlanLibrary:
    """TensorRT-RTX, or a skip where there is no wheel for the platform."""
    try:
        return load_library("tensorrt-rtx")
    except EngineUnavailableError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def planned_bundle(bundle_cache: Path, tiny_half_bundle: Path, rtx: PlanLibrary) -> Path:
    """The fp16 bundle with TensorRT-RTX plans for one request at a time."""
    folder = bundle_cache / f"tiny-plans-{rtx.version}-{source_key()}"
    with made_once(folder) as new:
        if new is not None:
            shutil.copytree(tiny_half_bundle, new, dirs_exist_ok=True)
            build_plans(new, TINY)
    return folder
