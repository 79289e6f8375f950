"""The measurement of builds measures what is built."""

import shutil
from pathlib import Path
from typing import Any

from inpaintrt.bundle import COMPONENT_NAMES
from inpaintrt_bench.plans import measure_builds
from inpaintrt_export.plans import BuildSettings
from plan_fixtures import planned_bundle, rtx

__all__ = ["planned_bundle", "rtx"]

MODEST = BuildSettings("tensorrt-rtx", targets=("sm86",), max_batch=1)


def test_every_build_has_its_cost(planned_bundle: Path, tmp_path: Path) -> None:
    bundle = shutil.copytree(planned_bundle, tmp_path / "bundle")
    first: Any = measure_builds(str(bundle), MODEST)
    assert list(first["components"]) == list(COMPONENT_NAMES)
    for cost in first["components"].values():
        assert cost["seconds"] > 0
        assert cost["megabytes"] > 0
    assert first["peak_resident_megabytes"] > 50
    again: Any = measure_builds(str(bundle), MODEST)
    assert again["components"] == {}
