"""All that we call exists, in TensorRT-RTX as installed and in TensorRT 10 and 11 as published."""

import importlib
import inspect
import json
import re
from pathlib import Path
from typing import Any

import pytest

import inpaintrt_export.builds.compiler as compiler
import inpaintrt_export.builds.monitor as monitor
from inpaintrt.backends import tensorrt, tensorrt_api, tensorrt_library
from runtime.backends.tensorrt_signatures import Signatures, read_signatures

RECORDED: dict[str, Signatures] = json.loads(
    Path(__file__).with_name("tensorrt_signatures.json").read_text()
)["modules"]
# Members of enumerations, and methods of interfaces that we implement.
SHARED = {
    "NetworkDefinitionCreationFlag": ["STRONGLY_TYPED"],
    "ExecutionContextAllocationStrategy": ["USER_MANAGED"],
    "ILogger": ["log"],
    "IStreamWriter": ["write"],
    "IProgressMonitor": ["phase_start", "step_complete", "phase_finish"],
}
ONLY_RTX = {
    "CudaGraphStrategy": ["WHOLE_GRAPH_CAPTURE"],
    "DynamicShapesKernelSpecializationStrategy": ["EAGER"],
    "EngineValidity": ["INVALID", "SUBOPTIMAL"],
    "EngineInvalidityDiagnostics": ["VERSION_MISMATCH", "UNSUPPORTED_CC"],
    "ComputeCapability": ["SM86", "SM89", "SM120"],
}


def _is_rtx(name: str) -> bool:
    return name.endswith("Rtx") or name == "IRuntimeCache"


def _used(*, rtx: bool) -> dict[str, list[tuple[str, Any]]]:
    """What our types declare: class, then members with the declaration."""
    used: dict[str, list[tuple[str, Any]]] = {}
    for name in tensorrt_api.__all__:
        if _is_rtx(name) <= rtx:
            declared = vars(getattr(tensorrt_api, name))
            members = {**dict.fromkeys(declared.get("__annotations__", {})), **declared}
            used.setdefault(name.removesuffix("Rtx"), []).extend(
                (member, value) for member, value in members.items() if not member.startswith("_")
            )
    return used


def _names(*, rtx: bool) -> dict[str, list[str]]:
    names = {name: [member for member, _ in members] for name, members in _used(rtx=rtx).items()}
    return {**names, **SHARED, **(ONLY_RTX if rtx else {})}


def _check(signatures: Signatures, *, rtx: bool) -> None:
    for owner, members in _names(rtx=rtx).items():
        assert set(members) <= set(signatures.get(owner, {})), owner
    for owner, declared in _used(rtx=rtx).items():
        for member, value in declared:
            if inspect.isfunction(value):
                ours = list(inspect.signature(value).parameters)[1:]
                assert any(_accepts(theirs, ours) for theirs in signatures[owner][member]), (owner, member)
            else:
                assert signatures[owner][member] == "property", (owner, member)


def _accepts(theirs: list[str], ours: list[str]) -> bool:
    given, rest = theirs[: len(ours)], theirs[len(ours) :]
    return [name.rstrip("=") for name in given] == ours and all(name.endswith("=") for name in rest)


@pytest.mark.parametrize("version", RECORDED)
def test_tensorrt_has_what_we_call(version: str) -> None:
    _check(RECORDED[version], rtx=False)


def test_tensorrt_rtx_has_what_we_call() -> None:
    module = pytest.importorskip("tensorrt_rtx")
    _check(read_signatures(module, _names(rtx=True)), rtx=True)


def test_what_we_detect_is_what_tells_the_libraries_apart() -> None:
    module = pytest.importorskip("tensorrt_rtx")
    for name in ("ComputeCapability", "IRuntimeCache"):
        assert hasattr(module, name)
        assert not any(name in signatures for signatures in RECORDED.values())
    assert hasattr(module.Runtime, "get_engine_validity")
    assert hasattr(module.Runtime, "defer_weights_loading")


def test_every_name_that_we_take_from_a_module_is_checked() -> None:
    known = {*tensorrt_api.__all__, *SHARED, *ONLY_RTX, "__version__"}
    sources = [inspect.getsource(part) for part in (tensorrt, tensorrt_library, compiler, monitor)]
    taken = {name for source in sources for name in re.findall(r"\bmodule\.(\w+)", source)}
    assert {"Builder", "OnnxParser", "Runtime", "ILogger"} <= taken <= known


def test_cuda_has_what_we_call() -> None:
    core = pytest.importorskip("cuda.core")
    driver = importlib.import_module("cuda.bindings.driver")
    graphs = importlib.import_module("cuda.core.graph")
    members = {
        core.Device: [
            *("allocate", "compute_capability", "create_event", "create_stream", "name", "set_current"),
        ],
        core.Event: ["__sub__", "sync"],
        core.Stream: ["create_graph_builder", "handle", "record", "sync"],
        core.Buffer: ["handle", "size"],
        core.LegacyPinnedMemoryResource: ["allocate"],
        graphs.GraphBuilder: ["begin_building", "complete", "end_building"],
        graphs.Graph: ["launch"],
        driver: ["cuDriverGetVersion", "cuMemGetInfo", "cuMemcpyAsync"],
        importlib.import_module("cuda.core._utils.cuda_utils"): ["CUDAError"],
    }
    for owner, names in members.items():
        assert [name for name in names if not hasattr(owner, name)] == [], owner
    assert core.StreamOptions(nonblocking=True).nonblocking
    assert core.EventOptions(timing_enabled=True).timing_enabled
