"""Backends that can start on this machine's GPU, each with the demo bundle, or the one that is named.

`INPAINTRT_GPU_BUNDLE=engines/sd15` runs the tests on another bundle.
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bundles import source_key
from inpaintrt.bundle import load_manifest
from inpaintrt.doctor import examine
from inpaintrt.pipeline import InpaintPipeline
from inpaintrt.store import find_bundle
from inpaintrt_export.builds import BuildSettings, build_plans
from inpaintrt_export.builds.variants import build_variants
from inpaintrt_export.exporter import export_bundle

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
    """The bundle, with what the backend runs in half precision."""
    folder = tmp_path_factory.mktemp("gpu") / "bundle"
    shutil.copytree(find_bundle(os.environ.get("INPAINTRT_GPU_BUNDLE", "demo")), folder)
    _build(folder, backend, prompt_windows=2)
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


@pytest.fixture(scope="session")
def full_size_bundle(backend: str, bundle_cache: Path) -> Path:
    """The real architecture with random weights, made once and then kept, with what the backend runs."""
    folder = bundle_cache / f"sd15-fp32-{source_key()}"
    if not folder.is_dir():
        export_bundle("synthetic:sd15-inpaint", folder)
    _build(folder, backend)
    return folder


def _build(folder: Path, backend: str, **settings: Any) -> None:
    """What the backend runs in half precision; a bundle that has it already stays as it is."""
    if backend == "onnxruntime-cuda":
        build_variants(folder)
    if backend == "tensorrt":
        build_plans(folder, BuildSettings("tensorrt", max_batch=MAX_BATCH, **settings))
    if backend == "tensorrt-rtx":
        build_plans(folder, BuildSettings("tensorrt-rtx", max_batch=MAX_BATCH, **settings))


@pytest.fixture(scope="session")
def is_demo(bundle: Path) -> bool:
    """Whether the bundle paints what the classifier of the demo knows."""
    return load_manifest(bundle).name == load_manifest(find_bundle("demo")).name
