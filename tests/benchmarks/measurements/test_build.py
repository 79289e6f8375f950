"""The cost of exports and plans: every part has its own, and what is there already costs nothing."""

import hashlib
import inspect
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from bundles import SD_COMPONENTS, make_tiny_checkpoint, source_key
from inpaintrt.cli import app
from inpaintrt.errors import ExportError
from inpaintrt_bench.measurements.build import Phases, measure_export, measure_plans
from inpaintrt_bench.processes import run_alone
from inpaintrt_bench.report.files import load_report
from inpaintrt_bench.report.schema import Row
from inpaintrt_export.builds import BuildSettings
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


@pytest.fixture(scope="module")
def checkpoint(bundle_cache: Path) -> Path:
    """The one that is exported fastest: its only VAE is a tiny one."""
    return make_tiny_checkpoint(bundle_cache, "tiny-lcm")


@pytest.fixture(scope="module")
def export_report(bundle_cache: Path, checkpoint: Path) -> Path:
    """The report of an export, which takes a minute: kept for a state of the exporter and its measurement."""
    source = inspect.getsourcefile(measure_export)
    assert source is not None
    digest = hashlib.sha256(Path(source).read_bytes()).hexdigest()[:16]
    output = bundle_cache / f"tiny-lcm-build-{source_key()}-{digest}.json"
    if not output.is_file():
        arguments = ["bench", "build", str(checkpoint), "--precision", "fp32", "--no-plans"]
        result = CliRunner().invoke(app, [*arguments, "-o", str(output)], catch_exceptions=False)
        assert "| text encoder | export |" in result.output
    return output


def test_every_part_of_an_export_has_its_cost(export_report: Path, checkpoint: Path) -> None:
    report = load_report(export_report)
    assert (report.kind, report.settings["precision"]) == ("build", "fp32")
    assert {row.name for row in report.rows} == {"text_encoder", "vae", "unet", "rest"}
    for row in report.rows:
        assert float(str(row.values["seconds"])) > 0
        assert _peak(row) > 50e6
    sizes = {row.name: int(str(row.values["bytes"])) for row in report.rows}
    weights = (checkpoint / "unet" / "diffusion_pytorch_model.safetensors").stat().st_size
    # The graph for CPUs lies beside the other, and so few weights are in both.
    assert 2 * weights < sizes["unet"] < 3 * weights


def test_a_checkpoint_that_is_not_there_is_an_error_of_the_export(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="absent"):
        run_alone(measure_export, str(tmp_path / "absent"), tmp_path / "bundle", "fp32")


def test_a_library_that_is_not_there_is_a_row_with_its_reason(tiny_half_bundle: Path) -> None:
    (row,) = measure_plans(str(tiny_half_bundle), BuildSettings("tensorrt"))
    assert (row.name, row.status, row.case) == ("plans", "failed", {"made": "tensorrt"})
    assert row.reason is not None
    assert "tensorrt" in row.reason


def test_every_plan_has_its_cost_once(planned_bundle: Path, tmp_path: Path) -> None:
    bundle = shutil.copytree(planned_bundle, tmp_path / "bundle")
    first = run_alone(measure_plans, str(bundle), MODEST)
    assert [row.name for row in first] == list(SD_COMPONENTS)
    for row in first:
        assert row.case == {"made": "tensorrt-rtx", "targets": "sm86"}
        assert float(str(row.values["seconds"])) > 0
        assert int(str(row.values["bytes"])) > 1000
        assert _peak(row) > 50e6
    assert run_alone(measure_plans, str(bundle), MODEST) == []
