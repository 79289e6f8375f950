"""What is said of the machine."""

from inpaintrt_bench import gpus
from inpaintrt_bench.machine import describe_machine, measure_peak, package_versions


def test_the_machine_is_described() -> None:
    peak = measure_peak("cpu")
    assert peak.library in ("torch", "numpy")
    assert 1e8 < peak.operations_per_second < 1e16
    machine = describe_machine(peak)
    assert machine.processor
    assert (machine.memory or 0) > 1e9
    assert machine.peak == peak
    assert {"inpaintrt", "numpy", "torch"} <= set(machine.packages)
    assert package_versions(("inpaintrt", "no-such-package")).keys() == {"inpaintrt"}


def test_gpus_are_those_of_nvml_or_absent() -> None:
    found = gpus.describe_gpus()
    for gpu in found:
        assert gpu.name
        assert gpu.memory > 1e9
    if not found:
        assert (gpus.clock_mhz(), gpus.joules(), gpus.device_bytes(1)) == (None, None, None)
