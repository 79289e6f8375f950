"""How far a build is, and how it is cancelled."""

from __future__ import annotations

from dataclasses import dataclass
from threading import Event, Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from inpaintrt.backends.tensorrt_library import PlanLibrary

__all__ = ["BuildMonitor", "make_monitor"]


@dataclass
class _Phase:
    parent: str | None
    steps: int
    done: int = 0


class BuildMonitor:
    """Follows the phases of a build, which nest; the library calls it from threads of its own."""

    def __init__(self) -> None:
        super().__init__()
        self._phases: dict[str, _Phase] = {}
        self._lock = Lock()
        self._cancelled = Event()
        self._fraction = 0.0
        self._newest = ""

    @property
    def fraction(self) -> float:
        """How much of the build lies behind, in [0, 1]; it never falls."""
        return self._fraction

    @property
    def phase(self) -> str:
        """The newest phase, in the library's words."""
        return self._newest

    def cancel(self) -> None:
        """Make the library give up at its next step."""
        self._cancelled.set()

    def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
        """A phase begins."""
        with self._lock:
            self._phases[phase_name] = _Phase(parent_phase, max(num_steps, 1))
            self._newest = phase_name

    def step_complete(self, phase_name: str, step: int) -> bool:
        """A step of a phase is done; False cancels the build."""
        with self._lock:
            if phase_name in self._phases:
                self._phases[phase_name].done = step + 1
                self._fraction = max(self._fraction, self._overall(phase_name))
        return not self._cancelled.is_set()

    def phase_finish(self, phase_name: str) -> None:
        """A phase ends."""
        with self._lock:
            self._phases.pop(phase_name, None)

    def _overall(self, name: str) -> float:
        inner = 0.0
        phase: _Phase | None = self._phases[name]
        seen: set[int] = set()
        while phase is not None and id(phase) not in seen:
            seen.add(id(phase))
            inner = min((phase.done + inner) / phase.steps, 1.0)
            phase = self._phases.get(phase.parent) if phase.parent is not None else None
        return inner


def make_monitor(library: PlanLibrary) -> BuildMonitor:
    """A `BuildMonitor` that the library accepts as its IProgressMonitor; it must outlive the build."""
    monitor: BuildMonitor = type("Monitor", (BuildMonitor, library.module.IProgressMonitor), {})()
    return monitor
