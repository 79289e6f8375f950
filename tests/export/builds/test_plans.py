"""TensorRT-RTX really builds the tiny bundle's plans, on whatever machine the tests run on."""

import importlib.util
import shutil
import sys
from pathlib import Path

import msgspec
import onnx
import pytest
from onnx import TensorProto, helper

from bundles import SD_COMPONENTS, builds_for, conversions
from inpaintrt.backends.tensorrt_library import PlanLibrary, load_library
from inpaintrt.bundle import (
    PRECISIONS,
    Build,
    Manifest,
    load_manifest,
    network_digest,
    replace_build,
    verify_files,
)
from inpaintrt.errors import BundleIntegrityError, EngineUnavailableError, ParameterError, PlanBuildError
from inpaintrt.store import find_bundle
from inpaintrt_export.builds import BuildSettings, build_plans
from inpaintrt_export.builds.compiler import compile_plan
from inpaintrt_export.builds.plans import describe_plan, plan_key
from inpaintrt_export.graphs.inputs import Shapes
from inpaintrt_export.precision.conversions import HALF_REVISION
from inpaintrt_export.progress import silent
from plan_fixtures import TINY


def _network(folder: Path, operator: str = "Tanh", inputs: int = 1) -> Path:
    """A network of one node named "the/node"."""
    shape = ["batch", 4]
    graph = helper.make_graph(
        [helper.make_node(operator, ["x"] * inputs, ["y"], "the/node")],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    path = folder / "network.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def _plans(manifest: Manifest) -> tuple[Build, ...]:
    return builds_for(manifest, "tensorrt-rtx")


@pytest.fixture
def copy(planned_bundle: Path, tmp_path: Path) -> Path:
    """A bundle with plans that a test may change."""
    return Path(shutil.copytree(planned_bundle, tmp_path / "bundle"))


def test_every_component_has_a_plan_and_the_manifest_tells_of_it(
    planned_bundle: Path, rtx: PlanLibrary
) -> None:
    manifest = load_manifest(planned_bundle)
    verify_files(manifest, planned_bundle)
    assert [plan.component for plan in _plans(manifest)] == list(SD_COMPONENTS)
    for plan in _plans(manifest):
        exported = manifest.exported[plan.component]
        assert (plan.backend, plan.library, plan.targets) == ("tensorrt-rtx", rtx.version, ("sm89",))
        assert (plan.inputs, plan.precision) == (exported.inputs, exported.precision)
        assert plan.network_sha256 == network_digest(manifest, plan.component)
        assert plan.key == plan_key(plan)
        assert (planned_bundle / plan.file).stat().st_size > 10_000
    denoiser = _plans(manifest)[SD_COMPONENTS.index("denoiser")]
    assert [profile["timestep"] for profile in denoiser.profiles] == [(1,), (2,)]


@pytest.fixture(scope="module")
def demo(rtx: PlanLibrary, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's bundle, which computes in float32, with plans in half precision."""
    bundle = Path(shutil.copytree(find_bundle("demo"), tmp_path_factory.mktemp("bundles") / "demo"))
    report = build_plans(bundle, TINY)
    assert [plan.component for plan in report.built] == list(SD_COMPONENTS)
    return bundle


def test_plans_of_a_float32_bundle_are_made_in_half_precision(demo: Path) -> None:
    manifest = load_manifest(demo)
    verify_files(manifest, demo)
    assert {exported.precision for exported in manifest.exported.values()} == {"fp32"}
    for plan in _plans(manifest):
        assert (plan.precision, plan.revision) == ("fp16", HALF_REVISION)
        assert plan.network_sha256 == network_digest(manifest, plan.component)
        assert plan.key == plan_key(plan)
    plans = {plan.component: plan for plan in _plans(manifest)}
    assert plans["text_encoder"].outputs["last_hidden_state"].dtype == "float16"
    assert plans["denoiser"].inputs["context"].dtype == "float16"
    assert plans["denoiser"].inputs["state"].dtype == "float32"
    assert not list(demo.glob(".half-*"))


def test_what_half_precision_does_is_in_the_manifest(demo: Path) -> None:
    checked = conversions(load_manifest(demo))
    assert [conversion.component for conversion in checked] == list(SD_COMPONENTS)
    for conversion in checked:
        assert (conversion.precision, conversion.accepted) == ("fp16", True)
        assert all(
            1e-6 < parity.relative_error < PRECISIONS["fp16"].tolerance for parity in conversion.parity
        )


def test_a_second_build_converts_nothing(demo: Path) -> None:
    stages = []
    before = (demo / "bundle.json").read_bytes()
    report = build_plans(demo, TINY, progress=lambda stage, _: stages.append(stage))
    assert (len(report.built), len(report.reused)) == (0, len(SD_COMPONENTS))
    assert stages == ["checking the bundle"]
    assert (demo / "bundle.json").read_bytes() == before


def test_another_target_converts_but_does_not_measure_again(
    demo: Path, tmp_path: Path, rtx: PlanLibrary
) -> None:
    copy = Path(shutil.copytree(demo, tmp_path / "copy"))
    stages = []
    settings = BuildSettings("tensorrt-rtx", targets=("sm120",), max_batch=1)
    report = build_plans(copy, settings, progress=lambda stage, _: stages.append(stage))
    assert {plan.targets for plan in report.built} == {("sm120",)}
    assert not [stage for stage in stages if "comparing" in stage]


def test_plans_in_float32_stand_beside_those_in_half_precision(
    demo: Path, tmp_path: Path, rtx: PlanLibrary
) -> None:
    copy = Path(shutil.copytree(demo, tmp_path / "copy"))
    settings = BuildSettings("tensorrt-rtx", targets=("sm89",), max_batch=1, precision="fp32")
    report = build_plans(copy, settings)
    assert {(plan.precision, plan.revision) for plan in report.built} == {("fp32", 0)}
    assert len(_plans(load_manifest(copy))) == 2 * len(SD_COMPONENTS)


def test_a_second_build_finds_the_plans_there(copy: Path) -> None:
    before = (copy / "bundle.json").read_bytes()
    report = build_plans(copy, TINY)
    assert (len(report.built), len(report.reused)) == (0, len(SD_COMPONENTS))
    assert (copy / "bundle.json").read_bytes() == before


def test_an_interrupted_build_keeps_what_is_done_and_goes_on_later(copy: Path, rtx: PlanLibrary) -> None:
    settings = BuildSettings("tensorrt-rtx", targets=("sm86", "sm120"), max_batch=1)

    def interrupt(stage: str, fraction: float | None) -> None:
        if stage.startswith("denoiser: ") and stage != "denoiser: reading the network":
            raise KeyboardInterrupt  # while the library is at work

    with pytest.raises(KeyboardInterrupt):
        build_plans(copy, settings, progress=interrupt)
    manifest = load_manifest(copy)
    verify_files(manifest, copy)
    added = [plan for plan in _plans(manifest) if plan.targets == ("sm86", "sm120")]
    assert [plan.component for plan in added] == ["text_encoder", "vae_encoder"]
    listed = {entry.path for entry in manifest.files}
    assert {path.relative_to(copy).as_posix() for path in copy.glob("plans/**/*.plan")} <= listed
    assert not list(copy.glob("plans/**/.*"))


def test_a_plan_that_serves_the_same_purpose_is_replaced(copy: Path) -> None:
    manifest = load_manifest(copy)
    plan = _plans(manifest)[0]
    stale = msgspec.structs.replace(plan, library="1.0", key="0" * 64)
    replace_build(copy, plan, stale)
    report = build_plans(copy, TINY)
    assert [plan.component for plan in report.built] == [stale.component]
    rebuilt = load_manifest(copy)
    assert sorted(plan.key for plan in _plans(rebuilt)) == sorted(plan.key for plan in _plans(manifest))
    verify_files(rebuilt, copy)


@pytest.mark.parametrize(("fresh", "heights"), [(False, [8, 8, 4, 4]), (True, [4, 4])])
def test_another_size_is_added_to_the_plan_unless_it_is_to_be_dropped(
    planned_bundle: Path, rtx: PlanLibrary, fresh: bool, heights: list[int]
) -> None:
    settings = BuildSettings(
        "tensorrt-rtx", targets=("sm89",), max_batch=1, resolutions=((32, 64),), fresh=fresh
    )
    manifest = load_manifest(planned_bundle)
    plan = describe_plan(manifest, "denoiser", rtx, ("sm89",), settings)
    assert [profile["noise"][2] for profile in plan.profiles] == heights
    assert plan.key == plan_key(plan) != _plans(manifest)[2].key


def test_a_plan_of_another_library_is_not_extended(planned_bundle: Path, rtx: PlanLibrary) -> None:
    manifest = load_manifest(planned_bundle)
    builds = tuple(
        msgspec.structs.replace(build, library="1.0") if build.library else build for build in manifest.builds
    )
    older = msgspec.structs.replace(manifest, builds=builds)
    settings = BuildSettings("tensorrt-rtx", targets=("sm89",), max_batch=1, resolutions=((32, 64),))
    plan = describe_plan(older, "vae_decoder", rtx, ("sm89",), settings)
    assert [profile["latent_sample"] for profile in plan.profiles] == [(1, 4, 4, 8)]


def test_builds_repeat_to_the_bit(tmp_path: Path, rtx: PlanLibrary) -> None:
    path = _network(tmp_path)
    profiles: list[Shapes] = [{"x": (2, 4)}]
    plans = []
    for targets in (("sm86",), ("sm86",), ()):
        compile_plan(rtx, path, profiles, targets, tmp_path / "plan", silent)
        plans.append((tmp_path / "plan").read_bytes())
    assert plans[0] == plans[1] != plans[2]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a device that is always full")
def test_a_plan_that_cannot_be_written_is_an_error(tmp_path: Path, rtx: PlanLibrary) -> None:
    with pytest.raises(OSError, match="No space left"):
        compile_plan(rtx, _network(tmp_path), [{"x": (2, 4)}], (), Path("/dev/full"), silent)


def test_a_node_that_the_parser_refuses_is_named(tmp_path: Path, rtx: PlanLibrary) -> None:
    with pytest.raises(PlanBuildError, match=r"node the/node \(Frobnicate\)"):
        compile_plan(rtx, _network(tmp_path, "Frobnicate"), [{"x": (2, 4)}], (), tmp_path / "plan", silent)


def test_a_node_that_the_builder_refuses_is_named(tmp_path: Path, rtx: PlanLibrary) -> None:
    with pytest.raises(PlanBuildError, match=r"the/node.*mismatching dimensions"):
        compile_plan(
            rtx, _network(tmp_path, "MatMul", inputs=2), [{"x": (2, 4)}], (), tmp_path / "plan", silent
        )


def test_a_file_that_is_no_network_is_refused(tmp_path: Path, rtx: PlanLibrary) -> None:
    (tmp_path / "network.onnx").write_bytes(b"not a network")
    with pytest.raises(PlanBuildError, match=r"(?s)network\.onnx.*Failed to parse"):
        compile_plan(rtx, tmp_path / "network.onnx", [], (), tmp_path / "plan", silent)


def test_what_the_builder_reports_reaches_the_user(tmp_path: Path, rtx: PlanLibrary) -> None:
    with pytest.raises(PlanBuildError, match="no optimization profile"):
        compile_plan(rtx, _network(tmp_path), [], (), tmp_path / "plan", silent)


def test_float32_plans_of_a_half_bundle_are_refused(tiny_half_bundle: Path, rtx: PlanLibrary) -> None:
    with pytest.raises(ParameterError, match=r"(?s)computes in fp16.*--precision fp16"):
        build_plans(tiny_half_bundle, BuildSettings("tensorrt-rtx", precision="fp32"))


def test_a_damaged_network_is_not_compiled(copy: Path) -> None:
    model = onnx.load(copy / "vae_encoder" / "model.onnx")
    model.producer_name = "somebody"
    onnx.save(model, copy / "vae_encoder" / "model.onnx")
    with pytest.raises(BundleIntegrityError, match="vae_encoder"):
        build_plans(copy, TINY)


@pytest.mark.skipif(importlib.util.find_spec("tensorrt") is not None, reason="TensorRT is installed")
def test_a_library_that_is_not_installed_is_named(tiny_half_bundle: Path) -> None:
    with pytest.raises(EngineUnavailableError, match=r"(?s)tensorrt.*pip install 'inpaintrt\[tensorrt\]'"):
        build_plans(tiny_half_bundle, BuildSettings("tensorrt"))


def test_only_two_backends_have_plans() -> None:
    with pytest.raises(ParameterError, match="tensorrt, tensorrt-rtx"):
        load_library("onnxruntime")
