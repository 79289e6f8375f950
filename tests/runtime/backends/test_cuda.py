"""CUDA's failures have names, with and without a driver."""

import importlib

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


def test_pipelines_on_one_gpu_share_its_lock() -> None:
    assert cuda._LOCKS[0] is cuda._LOCKS[0]
    assert cuda._LOCKS[0] is not cuda._LOCKS[1]
