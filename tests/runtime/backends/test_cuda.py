"""CUDA's failures have names, with and without a driver."""

import importlib
import threading

import pytest

from inpaintrt.backends import cuda
from inpaintrt.backends.cuda import CudaDevice, driver_version, find_gpu, gpu_target
from inpaintrt.errors import EngineMemoryError, EngineRunError, EngineUnavailableError


def _has_gpu() -> bool:
    try:
        find_gpu()
    except EngineUnavailableError:
        return False
    return True


@pytest.mark.skipif(_has_gpu(), reason="this machine has a GPU")
@pytest.mark.parametrize("look", [find_gpu, gpu_target, driver_version, CudaDevice])
def test_a_machine_without_a_driver_says_so(look: type[object]) -> None:
    pytest.importorskip("cuda.core")
    with pytest.raises(EngineUnavailableError, match=r"(?s)NVIDIA GPU 0.*driver.*inpaintrt doctor"):
        look()


def test_a_package_that_is_not_installed_is_named() -> None:
    with pytest.raises(EngineUnavailableError, match=r"(?s)package cuda-nothing,.*pip install"):
        cuda._module("cuda.nothing.here")


def test_a_status_is_an_error_with_a_name() -> None:
    pytest.importorskip("cuda.bindings")
    status = importlib.import_module("cuda.bindings.driver").CUresult
    cuda._check(status.CUDA_SUCCESS, "copying")
    with pytest.raises(EngineMemoryError, match=r"(?s)ran out of memory while copying.*low_vram"):
        cuda._check(status.CUDA_ERROR_OUT_OF_MEMORY, "copying")
    with pytest.raises(EngineRunError, match=r"(?s)failed while copying.*INVALID_VALUE") as caught:
        cuda._check(status.CUDA_ERROR_INVALID_VALUE, "copying")
    assert not isinstance(caught.value, EngineMemoryError)


def test_an_exception_of_cuda_core_is_an_error_with_a_name() -> None:
    pytest.importorskip("cuda.core")
    with pytest.raises(EngineMemoryError, match="while allocating"), cuda._failing("allocating"):
        raise cuda._cuda_error()("CUDA_ERROR_OUT_OF_MEMORY: the API call failed")
    with pytest.raises(EngineUnavailableError, match="no usable NVIDIA GPU 3"), cuda._unavailable(3):
        raise cuda._cuda_error()("CUDA_ERROR_NO_DEVICE")


class _Builder:
    """cuda-core's builder of graphs, which cannot end a capture that an error has invalidated."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def begin_building(self, mode: str) -> "_Builder":
        self.calls.append(mode)
        return self

    def end_building(self) -> "_Builder":
        self.calls.append("end")
        raise cuda._cuda_error()("CUDA_ERROR_STREAM_CAPTURE_INVALIDATED")


class _Stream:
    def __init__(self, builder: _Builder) -> None:
        self._builder = builder

    def create_graph_builder(self) -> _Builder:
        return self._builder


def test_what_failed_in_a_capture_is_the_error() -> None:
    pytest.importorskip("cuda.core")
    device = object.__new__(CudaDevice)
    builder = _Builder()
    device._stream = _Stream(builder)

    def work() -> None:
        raise EngineRunError("the library failed")

    with pytest.raises(EngineRunError, match="the library failed"):
        device.capture(work)
    assert builder.calls == ["thread_local", "end"]


class _Core:
    """As much of cuda-core as it takes to have a device."""

    StreamOptions = LegacyPinnedMemoryResource = staticmethod(lambda **_: None)

    class Device:
        def __init__(self, index: int) -> None:
            self.index = index

        def set_current(self) -> None: ...

        def create_stream(self, options: object) -> None: ...


@pytest.mark.parametrize(("other", "waits"), [(0, True), (1, False)])
def test_pipelines_on_one_gpu_take_turns(monkeypatch: pytest.MonkeyPatch, other: int, waits: bool) -> None:
    pytest.importorskip("cuda.core")
    real = cuda._module
    monkeypatch.setattr(cuda, "find_gpu", lambda index: cuda.Gpu(index, "a GPU", "sm90"))
    monkeypatch.setattr(cuda, "_module", lambda name: _Core if name == "cuda.core" else real(name))
    first, second = CudaDevice(0), CudaDevice(other)
    entered = threading.Event()

    def enter() -> None:
        with second.use():
            entered.set()

    thread = threading.Thread(target=enter)
    with first.use():
        thread.start()
        assert entered.wait(0.2 if waits else 10) is not waits
    thread.join()
    assert entered.is_set()
