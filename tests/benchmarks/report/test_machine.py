"""What is said of the machine."""

from inpaintrt_bench.report import machine as machines
from inpaintrt_bench.report.machine import describe_machine, measure_peak, package_versions


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


def test_readings_become_series() -> None:
    readings = machines.GpuReadings()
    assert readings.series(warm_up=1) == {}
    readings.joules += [20.0, 22.0]
    readings.clocks += [1980, 1965]
    series = readings.series(warm_up=1)
    assert (series["energy"].unit, series["energy"].samples) == ("J", (20.0, 22.0))
    assert (series["gpu_clock"].unit, series["gpu_clock"].statistics.maximum) == ("MHz", 1980)


def test_gpus_are_those_of_nvml_or_absent() -> None:
    found = machines.describe_gpus()
    for gpu in found:
        assert gpu.name
        assert gpu.memory > 1e9
    if not found:
        assert (machines.clock_mhz(), machines.joules(), machines.device_bytes(1)) == (None, None, None)
        readings = machines.GpuReadings()
        readings.take(1, machines.joules())
        assert readings.series(warm_up=1) == {}
