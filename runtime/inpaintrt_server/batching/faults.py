"""When an engine that failed counts as lost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from inpaintrt.denoiser import Program, Slots
from inpaintrt.errors import EngineRunError
from inpaintrt.samplers import compile_table
from inpaintrt.stages import Stages
from inpaintrt_server.errors import EngineLostError

__all__ = ["EngineStage", "Faults", "Probe"]

EngineStage: TypeAlias = Literal["encode", "step", "decode"]

_PROBE_STEPS = 4


class Probe:
    """One step of a request without a prompt at the checkpoint's own size: what must always work.

    Args:
        stages: The bundle's stages.
        open_slots: Makes slots for a latent shape.
        tokens: Length of a prompt's embedding.
    """

    def __init__(
        self, stages: Stages, open_slots: Callable[[tuple[int, int, int]], Slots], *, tokens: int
    ) -> None:
        architecture = stages.manifest.architecture
        height, width = (side // architecture.vae_scale_factor for side in architecture.native_resolution)
        self._open_slots = open_slots
        self._shape = (architecture.latent_channels, height, width)
        self._program = Program(
            compile_table(stages.manifest.scheduler, "ddim", _PROBE_STEPS),
            np.ones((_PROBE_STEPS, 1), np.float32),
            np.zeros((1, tokens, architecture.context_width), np.float32),
            self._silence,
        )

    def _silence(self, row: int) -> NDArray[np.float32]:
        del row
        return np.zeros(self._shape, np.float32)

    def __call__(self) -> None:
        """Run it.

        Raises:
            Exception: Whatever the engine raises.
            EngineRunError: The estimate is not finite.
        """
        slots = self._open_slots(self._shape)
        channels, height, width = self._shape
        condition = np.zeros((1 + channels, height, width), np.float32)
        slot = slots.join(self._program, np.zeros(self._shape, np.float32), condition)
        slots.step()
        if not np.isfinite(slots.denoised(slot)).all():
            raise EngineRunError("the network gives NaN or infinite values for a picture of zeros")


class Faults:
    """Counts failures in a row, and tries after each whether the engine still works.

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
