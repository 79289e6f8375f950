"""Phases of a build, as a library tells them."""

from inpaintrt_export.builds.monitor import BuildMonitor


def test_nested_phases_add_up() -> None:
    monitor = BuildMonitor()
    monitor.phase_start("build", None, 2)
    monitor.phase_start("optimise", "build", 4)
    assert monitor.phase == "optimise"
    assert monitor.step_complete("optimise", 0)
    assert monitor.fraction == 1 / 8
    monitor.step_complete("optimise", 3)
    monitor.phase_finish("optimise")
    assert monitor.fraction == 4 / 8
    monitor.step_complete("build", 0)
    monitor.step_complete("build", 1)
    assert monitor.fraction == 1


def test_the_fraction_never_falls() -> None:
    monitor = BuildMonitor()
    monitor.phase_start("build", None, 2)
    for _ in range(2):
        monitor.phase_start("optimise", "build", 2)
        monitor.step_complete("optimise", 1)
        monitor.phase_start("optimise", "build", 2)
        monitor.step_complete("optimise", 0)
        assert monitor.fraction == 1 / 2


def test_unknown_and_circular_phases_do_no_harm() -> None:
    monitor = BuildMonitor()
    assert monitor.step_complete("unheard of", 7)
    monitor.phase_start("same", "same", 4)
    monitor.step_complete("same", 0)
    monitor.phase_finish("unheard of")
    assert monitor.fraction == 1 / 4


def test_cancelling_answers_the_next_step() -> None:
    monitor = BuildMonitor()
    monitor.cancel()
    assert not monitor.step_complete("build", 0)
