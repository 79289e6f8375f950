"""The requests in flight: slots hold their state, rows ask the UNet, and each is at a step of its own."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from inpaintrt.backends import Array, Clock
from inpaintrt.denoiser.steps import Step
from inpaintrt.errors import EngineInputError, ParameterError
from inpaintrt.samplers import STATE_TENSORS, Table
from inpaintrt.timing import HostClock

__all__ = ["Program", "Slots", "row_bucket"]

Floats = NDArray[np.floating]


@dataclass(frozen=True, eq=False)
class Program:
    """What one slot does from its first step to its last.

    Attributes:
        table: The sampler's table.
        weights: `[rows, contexts]` float32: guidance; a context of weight 0 is not evaluated in that row.
        contexts: `[contexts, tokens, width]`: embeddings of the prompts.
        noise: Gives the noise `[channels, h, w]` of a row; asked only where the sampler wants it.
    """

    table: Table
    weights: NDArray[np.float32]
    contexts: Floats
    noise: Callable[[int], NDArray[np.float32]]


@dataclass
class _Occupant:
    program: Program
    row: int = 0


class _Row(NamedTuple):
    """One evaluation of the UNet: for which slot, and which context and step of its program."""

    slot: int
    program: Program
    context: int
    step: int


_ContextKey = tuple[Program, int]
_STAND_STILL = np.eye(STATE_TENSORS, STATE_TENSORS + 2, dtype=np.float32)


def row_bucket(rows: int, buckets: Sequence[int] | None) -> int:
    """The number of rows to pad to: the smallest bucket that holds them, or without buckets their own number.

    Raises:
        EngineInputError: There are more rows than the largest bucket holds.
    """
    if buckets is None:
        return rows
    for bucket in sorted(buckets):
        if rows <= bucket:
            return bucket
    raise EngineInputError(
        "the step has more rows than the engine is built for",
        received=f"{rows} rows",
        expected=f"at most {max(buckets)}",
        hint="ask for fewer pictures at once, or build an engine for more rows",
    )


class Slots:
    """The requests in flight at one picture size, each at a step of its own.

    Not for several threads at once: whoever owns the slots steps them.

    Args:
        step: Computes a step of all slots.
        capacity: How many requests fit.
        latent_shape: `(channels, h, w)` of a picture's latents.
        condition_channels: Channels of the mask and of the masked picture's latents together.
        row_buckets: Numbers of rows that the engine is built for; rows are padded up to the next. None: any.
    """

    def __init__(
        self,
        step: Step,
        *,
        capacity: int,
        latent_shape: tuple[int, int, int],
        condition_channels: int = 5,
        row_buckets: Sequence[int] | None = None,
    ) -> None:
        self._state = step.open_state(capacity, latent_shape, condition_channels)
        self._occupants: list[_Occupant | None] = [None] * capacity
        self._row_buckets = row_buckets
        self._silence = np.zeros((capacity, *latent_shape), np.float32)
        self._contexts: tuple[tuple[_ContextKey, ...], Floats] | None = None
        self._last: tuple[list[tuple[int, _Occupant]], NDArray[np.float32]] = [], self._silence

    @property
    def active(self) -> tuple[int, ...]:
        """Slots with steps left."""
        return tuple(slot for slot, _ in self._running())

    @property
    def clock(self) -> Clock:
        """The clock of what computes the steps, which on a device are not done when `step` returns."""
        state: object = self._state
        return state if isinstance(state, Clock) else HostClock()

    def _running(self) -> list[tuple[int, _Occupant]]:
        return [
            (slot, occupant)
            for slot, occupant in enumerate(self._occupants)
            if occupant is not None and occupant.row < occupant.program.table.rows
        ]

    def join(self, program: Program, latents: NDArray[np.float32], condition: NDArray[np.float32]) -> int:
        """Take a request in before the next step.

        Args:
            program: What to do.
            latents: `[channels, h, w]`, the first state, in variance-preserving scale.
            condition: `[condition_channels, h, w]`.

        Returns:
            The slot.

        Raises:
            ParameterError: All slots are taken.
        """
        if None not in self._occupants:
            raise ParameterError(
                "all slots are taken", received=f"{len(self._occupants)} requests", hint="let one leave first"
            )
        slot = self._occupants.index(None)
        self._occupants[slot] = _Occupant(program)
        self._state.write(slot, latents, condition)
        return slot

    def leave(self, slot: int) -> NDArray[np.float32]:
        """Free a slot, finished or not, and return its latents `[channels, h, w]`."""
        self._occupants[slot] = None
        return self._state.read(slot, 0)

    def denoised(self, slot: int) -> NDArray[np.float32]:
        """The newest estimate `[channels, h, w]` of the finished latents, for previews."""
        return self._state.read(slot, -1)

    def step(self) -> tuple[int, ...]:
        """Advance every active slot by one row of its table.

        Returns:
            The slots that this step has finished.
        """
        running = self._running()
        if not running:
            return ()
        noise = self._noise(running)
        self._state.advance(self._inputs(running, noise))
        self._last = running, noise
        for _, occupant in running:
            occupant.row += 1
        return tuple(slot for slot, occupant in running if occupant.row == occupant.program.table.rows)

    @property
    def unsound(self) -> tuple[int, ...]:
        """Slots of the last step whose newest estimate is not finite."""
        return tuple(slot for slot, _ in self._last[0] if not np.isfinite(self.denoised(slot)).all())

    def separate(self) -> tuple[int, ...]:
        """Take the last step back, do it again for one slot at a time, and free the slots that spoil it.

        A step adds up the rows of all slots, those of others with weight 0; and 0 * NaN is NaN. So one row
        that is not finite spoils every slot, but in a step of its own it spoils none but its own.

        Returns:
            The slots that are free now, since their estimates are not finite even alone.
        """
        running, noise = self._last
        self._state.undo()
        spoilt = []
        for slot, occupant in running:
            occupant.row -= 1
            self._state.advance(self._inputs([(slot, occupant)], noise))
            occupant.row += 1
            if not np.isfinite(self.denoised(slot)).all():
                self._state.undo()
                self._occupants[slot] = None
                spoilt.append(slot)
        return tuple(spoilt)

    def _inputs(
        self, running: Sequence[tuple[int, _Occupant]], noise: NDArray[np.float32]
    ) -> dict[str, Array]:
        """All inputs of a step but state and condition."""
        rows = [
            _Row(slot, occupant.program, int(context), occupant.row)
            for slot, occupant in running
            for context in np.flatnonzero(occupant.program.weights[occupant.row])
        ]
        padded = rows + rows[:1] * (row_bucket(len(rows), self._row_buckets) - len(rows))
        guidance = np.zeros((len(self._occupants), len(padded)), np.float32)
        for column, row in enumerate(rows):
            guidance[row.slot, column] = row.program.weights[row.step, row.context]
        return {
            "row_slot": np.array([row.slot for row in padded], np.int64),
            "timestep": np.array([row.program.table.timesteps[row.step] for row in padded], np.float32),
            "context": self._stack_contexts(padded),
            "guidance": guidance,
            "update": self._updates(running),
            "noise": noise,
        }

    def _stack_contexts(self, rows: Sequence[_Row]) -> Floats:
        """`[rows, tokens, width]`: the very array of the step before as long as rows ask for the same.

        Attention to a context that is there twice is attention to that context, so shorter ones are repeated
        until all have the same length.
        """
        key = tuple((row.program, row.context) for row in rows)
        if self._contexts is None or self._contexts[0] != key:
            contexts = [program.contexts[context] for program, context in key]
            tokens = math.lcm(*(len(context) for context in contexts))
            repeated = [np.tile(context, (tokens // len(context), 1)) for context in contexts]
            self._contexts = key, np.stack(repeated)
        return self._contexts[1]

    def _updates(self, running: Sequence[tuple[int, _Occupant]]) -> NDArray[np.float32]:
        update = np.tile(_STAND_STILL, (len(self._occupants), 1, 1))
        for slot, occupant in running:
            update[slot] = occupant.program.table.update[occupant.row]
        return update

    def _noise(self, running: Sequence[tuple[int, _Occupant]]) -> NDArray[np.float32]:
        """`[slots, channels, h, w]`; the very same array in all steps without noise."""
        noisy = [(slot, each) for slot, each in running if each.program.table.uses_noise[each.row]]
        noise = np.zeros_like(self._silence) if noisy else self._silence
        for slot, occupant in noisy:
            noise[slot] = occupant.program.noise(occupant.row)
        return noise
