"""For which GPUs a plan is built: TensorRT-RTX is told, TensorRT builds for the machine's own."""

from types import SimpleNamespace
from typing import Any

import pytest

from inpaintrt.backends.tensorrt_library import PlanLibrary, load_library
from inpaintrt.errors import PlanBuildError
from inpaintrt_export.builds import compiler
from runtime.backends.stand_in import stand_in_library


class _TensorRtConfig:
    """TensorRT's builder config takes no attribute that it does not have."""

    __slots__ = ()


class _Config:
    def __init__(self, *, accepts: bool) -> None:
        self._accepts = accepts
        self.num_compute_capabilities = 0
        self.named: list[object] = []

    def set_compute_capability(self, capability: object, index: int) -> bool:
        assert index == len(self.named)
        self.named.append(capability)
        return self._accepts


def test_tensorrt_gets_no_targets() -> None:
    config: Any = _TensorRtConfig()
    compiler._add_targets(stand_in_library(), config, ("sm90",))


def test_tensorrt_rtx_really_takes_targets() -> None:
    library = load_library("tensorrt-rtx")
    config = library.module.Builder(library.logger).create_builder_config()
    compiler._add_targets(library, config, ("sm89", "sm120"))
    assert config.num_compute_capabilities == 2
    assert config.get_compute_capability(1) == library.module.ComputeCapability.SM120


def test_a_target_that_the_library_refuses_is_an_error() -> None:
    module = SimpleNamespace(__version__="1.7.1", ComputeCapability=SimpleNamespace(SM89="SM89"))
    config: Any = _Config(accepts=False)
    with pytest.raises(PlanBuildError, match=r"(?s)does not build.*sm89.*leave the target out"):
        compiler._add_targets(PlanLibrary("tensorrt-rtx", module, None), config, ("sm89",))
    assert config.named == ["SM89"]
