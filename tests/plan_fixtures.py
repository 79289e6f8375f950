"""Plans of the tiny bundle, built once for a state of the exporter and then kept."""

import hashlib
import shutil
from pathlib import Path

import pytest

from bundles import source_key
from inpaintrt.backends.tensorrt_library import PlanLibrary, load_library
from inpaintrt.errors import EngineUnavailableError
from inpaintrt_export import plans
from inpaintrt_export.plans import BuildSettings, build_plans

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
    folder = bundle_cache / f"tiny-plans-{rtx.version}-{source_key()}-{_builder_key()}"
    if not folder.is_dir():
        shutil.copytree(tiny_half_bundle, folder)
    build_plans(folder, TINY)
    return folder


def _builder_key() -> str:
    sources = sorted(Path(plans.__file__).parent.glob("*.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:16]
