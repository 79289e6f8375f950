"""When an engine that failed counts as lost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Literal, TypeAlias

from inpaintrt_server.errors import EngineLostError

__all__ = ["EngineStage", "Faults"]

EngineStage: TypeAlias = Literal["encode", "step", "decode"]


class Faults:
    """Counts failures in a row, and tries after each whether the engine still works.

    That holds for a device without memory too: it may have been one large picture that did not fit.

    Args:
        probe: Raises if the engine does not work.
        limit: Failures of one stage in a row after which the engine counts as lost, whatever the probe says.
    """

    def __init__(self, probe: Callable[[], None], limit: int) -> None:
        self._probe = probe
        self._limit = limit
        self._in_a_row: Counter[EngineStage] = Counter()

    def succeeded(self, stage: EngineStage) -> None:
        """A stage has worked."""
        self._in_a_row[stage] = 0

    def failed(self, stage: EngineStage, error: Exception) -> None:
        """A stage has failed.

        Raises:
            EngineLostError: The engine is gone.
        """
        self._in_a_row[stage] += 1
        if self._in_a_row[stage] >= self._limit:
            raise _lost(f"{stage} failed {self._limit} times in a row", error) from error
        self.check()

    def check(self) -> None:
        """Try whether the engine works.

        Raises:
            EngineLostError: It does not.
        """
        try:
            self._probe()
        except Exception as error:
            raise _lost("a step of zeros fails", error) from error


def _lost(what: str, error: Exception) -> EngineLostError:
    return EngineLostError(
        f"the engine is lost: {what}",
        received=f"{type(error).__name__}: {error}",
        hint="start the server again",
    )
