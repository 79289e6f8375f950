"""Backends that can start on this machine's GPU, each with the demo bundle, or the one that is named.

`INPAINTRT_GPU_BUNDLE=engines/sd15` runs the tests on another bundle, such as a full-size one.
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from inpaintrt.bundle import load_manifest
from inpaintrt.doctor import examine
from inpaintrt.pipeline import InpaintPipeline
from inpaintrt.store import find_bundle
from inpaintrt_export.plans import BuildSettings, build_plans

MAX_BATCH = 4
BACKENDS = ("onnxruntime-cuda", "tensorrt", "tensorrt-rtx")


@pytest.fixture(scope="session", params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    """A backend that can run here; the others are skipped with the doctor's reason."""
    name = str(request.param)
    health = next(found for found in examine().backends if found.name == name)
    if not health.usable:
        pytest.skip(health.detail)
    return name


@pytest.fixture(scope="session")
def bundle(backend: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle, with plans where the backend needs them."""
    folder = tmp_path_factory.mktemp("gpu") / "bundle"
    shutil.copytree(find_bundle(os.environ.get("INPAINTRT_GPU_BUNDLE", "demo")), folder)
    precision = load_manifest(folder).components["denoiser"].precision
    if backend == "tensorrt":
        build_plans(folder, BuildSettings("tensorrt", max_batch=MAX_BATCH, precision=precision))
    if backend == "tensorrt-rtx":
        build_plans(folder, BuildSettings("tensorrt-rtx", max_batch=MAX_BATCH, precision=precision))
    return folder


@pytest.fixture
def pipe(backend: str, bundle: Path) -> Iterator[InpaintPipeline]:
    """A pipeline on the GPU."""
    with InpaintPipeline.from_bundle(bundle, backend=backend) as pipeline:
        yield pipeline


@pytest.fixture(scope="session")
def cpu(bundle: Path) -> Iterator[InpaintPipeline]:
    """The same bundle on the CPU."""
    with InpaintPipeline.from_bundle(bundle) as pipeline:
        yield pipeline
