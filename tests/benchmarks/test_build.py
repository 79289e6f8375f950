"""The cost of exports and plans: every part has its own, and what is there already costs nothing."""

import shutil
import time
from pathlib import Path

import numpy as np
import pytest

from inpaintrt.bundle import COMPONENT_NAMES, load_manifest
from inpaintrt.errors import ExportError
from inpaintrt_bench.build import Phases, measure_export, measure_plans
from inpaintrt_bench.isolation import run_alone
from inpaintrt_bench.schema import Row
from inpaintrt_export.plans import BuildSettings
from plan_fixtures import planned_bundle, rtx

__all__ = ["planned_bundle", "rtx"]

MODEST = BuildSettings("tensorrt-rtx", targets=("sm86",), max_batch=1)
BLOCK = 80_000_000


def _peak(row: Row) -> int:
    assert row.memory is not None
    assert row.memory.peak_resident is not None
    return row.memory.peak_resident


def _costs_of_two_phases() -> dict[str, tuple[float, int | None]]:
    phases = Phases(lambda stage: stage.partition(":")[0])
    phases("small: reading", 0.0)
    time.sleep(0.05)
    phases("large: reading", 0.1)
    phases("large: writing", 0.2)
    np.ones(BLOCK, np.uint8)
    phases("small: again", 0.3)
    time.sleep(0.05)
    phases.finish()
    phases.finish()
    return {name: (cost.seconds, cost.peak) for name, cost in phases.costs.items()}


def test_phases_add_up_and_keep_their_own_peaks() -> None:
    costs = run_alone(_costs_of_two_phases)
    assert list(costs) == ["small", "large"]
    (seconds, small), (_, large) = costs["small"], costs["large"]
    assert seconds >= 0.1
    assert small is not None
    assert large is not None
    assert large > small + 0.8 * BLOCK


def test_every_part_of_an_export_has_its_cost(tiny_checkpoint: Path, tmp_path: Path) -> None:
    output = tmp_path / "bundle"
    rows = run_alone(measure_export, str(tiny_checkpoint), output, "fp32")
    assert load_manifest(output).components.keys() == set(COMPONENT_NAMES)
    assert {row.name for row in rows} == {"text_encoder", "vae", "unet", "rest"}
    size = sum(path.stat().st_size for path in output.rglob("*") if path.is_file())
    assert sum(int(str(row.values["bytes"])) for row in rows) == size
    for row in rows:
        assert float(str(row.values["seconds"])) > 0
        assert _peak(row) > 50e6


def test_a_checkpoint_that_is_not_there_is_an_error_of_the_export(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="absent"):
        run_alone(measure_export, str(tmp_path / "absent"), tmp_path / "bundle", "fp32")


def test_every_plan_has_its_cost_once(planned_bundle: Path, tmp_path: Path) -> None:
    bundle = shutil.copytree(planned_bundle, tmp_path / "bundle")
    first = run_alone(measure_plans, str(bundle), MODEST)
    assert [row.name for row in first] == list(COMPONENT_NAMES)
    for row in first:
        assert row.case == {"made": "tensorrt-rtx", "targets": "sm86"}
        assert float(str(row.values["seconds"])) > 0
        assert int(str(row.values["bytes"])) > 1000
        assert _peak(row) > 50e6
    assert run_alone(measure_plans, str(bundle), MODEST) == []
