"""The denoiser's engine in the server: its steps, what fits into one, and when it counts as lost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, TypeAlias

import numpy as np

from inpaintrt.conditioning import named, row_shape
from inpaintrt.denoiser import Entry, Program, Slots, row_bucket
from inpaintrt.errors import EngineInputError, EngineRunError
from inpaintrt.samplers import compile_table
from inpaintrt.stages import Stages
from inpaintrt_server.errors import EngineLostError

__all__ = ["EngineStage", "Faults", "GroupKey", "StepEngine"]

EngineStage: TypeAlias = Literal["encode", "step", "decode"]

_PROBE_STEPS = 4
_PROBED_SHALLOW = np.arange(_PROBE_STEPS) >= _PROBE_STEPS // 2
_ROWS_OF_A_SLOT = 2  # with guidance


class GroupKey(NamedTuple):
    """What results of one model must have in common to share a step.

    Attributes:
        latent_shape: `(channels, h, w)`.
        tokens: Length of the prompts' embeddings.
    """

    latent_shape: tuple[int, int, int]
    tokens: int

    @classmethod
    def of(cls, entry: Entry) -> GroupKey:
        """The key of a result."""
        channels, height, width = entry.latents.shape
        return cls((channels, height, width), entry.program.per_row["context"].shape[1])


class StepEngine:
    """Opens slots, knows what fits into a step, and tries whether the engine works. For the engine's thread.

    Args:
        stages: The bundle's stages.
        slots: How many slots every group has: the products of a step then always have the same size, so that
            company changes no bit of a result within one row bucket.
        row_buckets: Numbers of rows that a step is padded to; None for just the rows that it needs.
        tokens: Length of the embedding of a prompt of one window.

    Raises:
        EngineInputError: The engine was built for fewer slots.

    Attributes:
        slots: How many slots every group has.
        pixels: Pixels of one latent pixel.
    """

    def __init__(self, stages: Stages, *, slots: int, row_buckets: Sequence[int] | None, tokens: int) -> None:
        self._stages = stages
        self._buckets = row_buckets
        self.slots = slots
        architecture = stages.manifest.architecture
        self.pixels = architecture.vae_scale_factor**2
        height, width = (
            side // architecture.vae_scale_factor
            for side in (stages.sizes[0] if stages.sizes else architecture.native_resolution)
        )
        self._plain = GroupKey((architecture.latent_channels, height, width), tokens)
        self.check(self._plain, 1)

    def open(self, latent_shape: tuple[int, int, int]) -> Slots:
        """Slots for one latent shape."""
        return Slots(
            self._stages.step, capacity=self.slots, latent_shape=latent_shape, row_buckets=self._buckets
        )

    def bucket(self, rows: int) -> int:
        """What rows are padded to."""
        return row_bucket(rows, self._buckets)

    def check(self, key: GroupKey, rows: int) -> None:
        """Check that a step of so many rows fits.

        Raises:
            EngineInputError: It does not.
        """
        width = self._stages.manifest.architecture.context_width
        self._stages.step.check(self.slots, key.latent_shape, (self.bucket(rows), key.tokens, width))

    def takes(self, key: GroupKey, rows: int) -> bool:
        """Whether a step of so many rows fits."""
        try:
            self.check(key, rows)
        except EngineInputError:
            return False
        return True

    def probe(self) -> None:
        """Do a step for an image of zeros without a prompt, which must always work.

        Raises:
            Exception: Whatever the engine raises.
            EngineRunError: The estimate is not finite.
        """
        slots = self._open_plain()
        slot = self._join_zeros(slots, contexts=1)
        slots.step()
        if not slots.finite(slot):
            raise EngineRunError("the network gives NaN or infinite values for an image of zeros")

    def warm_up(self) -> None:
        """Run everything with 1, 2, 4, ... rows, where the state is on a device.

        There the first run of a shape chooses kernels and the next one may record them, which takes seconds.
        On a CPU a first run costs little more than any other.

        Raises:
            Exception: Whatever the engines raise.
        """
        if self._open_plain().on_host:
            return
        self._stages.warm_up()
        rows = 1
        while rows <= _ROWS_OF_A_SLOT * self.slots and self.takes(self._plain, rows):
            slots = self._open_plain()
            contexts = min(rows, _ROWS_OF_A_SLOT)
            for _ in range(rows // contexts):
                self._join_zeros(slots, contexts)
            for _ in range(_PROBE_STEPS):
                slots.step()
            rows *= 2

    def _open_plain(self) -> Slots:
        return self.open(self._plain.latent_shape)

    def _join_zeros(self, slots: Slots, contexts: int) -> int:
        """Have a slot denoise zeros; its number."""
        shape = self._plain.latent_shape
        specs = self._stages.step.inputs
        program = Program(
            compile_table(self._stages.manifest.scheduler, "ddim", _PROBE_STEPS),
            np.full((_PROBE_STEPS, contexts), 1 / contexts, np.float32),
            {
                name: np.zeros(row_shape(specs[name], contexts, self._plain.tokens), np.float32)
                for name in named(specs, "per_row")
            },
            noise=lambda _: np.zeros(shape, np.float32),
            thresholds=np.zeros(_PROBE_STEPS, np.float32),
            shallow=_PROBED_SHALLOW if self._stages.step.caches else None,
        )
        return slots.join(program, np.zeros(shape, np.float32), {})


class Faults:
    """Counts failures in a row, and tries after each whether the engine still works.

    That holds for a device without memory too: it may have been one large image that did not fit.

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
