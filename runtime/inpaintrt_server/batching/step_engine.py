"""The denoiser's engine as the server uses it: slots of one number, rows of some buckets."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from inpaintrt.denoiser import Entry, Program, Slots, row_bucket
from inpaintrt.errors import EngineInputError, EngineRunError
from inpaintrt.families import sd
from inpaintrt.samplers import compile_table
from inpaintrt.stages import Stages
from inpaintrt_server.batching.settings import BatchingSettings

__all__ = ["GroupKey", "StepEngine"]

_PROBE_STEPS = 4


class GroupKey(NamedTuple):
    """What results must have in common to share a step.

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
        settings: Slots and row buckets.
        tokens: Length of the embedding of a prompt of one window.

    Raises:
        EngineInputError: The engine was built for fewer slots.

    Attributes:
        slots: How many slots every group has: the products of a step then always have the same size, so
            that company changes no bit of a result within one row bucket.
        pixels: Pixels of one latent pixel.
    """

    def __init__(self, stages: Stages, settings: BatchingSettings, *, tokens: int) -> None:
        self._stages = stages
        self._buckets = settings.row_buckets
        self.slots = settings.slots
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
        """Do a step for a picture of zeros without a prompt, which must always work.

        Raises:
            Exception: Whatever the engine raises.
            EngineRunError: The estimate is not finite.
        """
        shape = self._plain.latent_shape
        architecture = self._stages.manifest.architecture
        program = Program(
            compile_table(self._stages.manifest.scheduler, "ddim", _PROBE_STEPS),
            np.ones((_PROBE_STEPS, 1), np.float32),
            sd.per_row(
                architecture, np.zeros((1, self._plain.tokens, architecture.context_width), np.float32), 1
            ),
            noise=lambda _: np.zeros(shape, np.float32),
            thresholds=np.zeros(_PROBE_STEPS, np.float32),
        )
        slots = self.open(shape)
        slot = slots.join(program, np.zeros(shape, np.float32), {})
        slots.step()
        if not slots.finite(slot):
            raise EngineRunError("the network gives NaN or infinite values for a picture of zeros")
