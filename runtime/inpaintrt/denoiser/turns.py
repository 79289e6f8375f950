"""The results of one request, as many at a time as an engine takes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from inpaintrt.backends import Clock
from inpaintrt.denoiser.slots import Entry, Slots, nonfinite_error, row_bucket
from inpaintrt.denoiser.steps import Step
from inpaintrt.errors import EngineInputError

__all__ = ["Turns"]

Floats = NDArray[np.float32]


class Turns:
    """Denoises the results of one request, all at once or, where that is too much for the engine, in turns.

    Args:
        step: Computes a step of all slots.
        entries: The results; their programs have the same table and as many contexts.
        row_buckets: Numbers of rows to pad a step to; None for exactly as many as there are.

    Attributes:
        total: How many steps there are, those of all turns together.
    """

    def __init__(self, step: Step, entries: Sequence[Entry], row_buckets: Sequence[int] | None) -> None:
        most = _most_at_once(step, entries, row_buckets)
        self.total = -(-len(entries) // most) * entries[0].program.table.rows
        self._slots = Slots(
            step,
            capacity=_capacity(step, entries, most, row_buckets),
            latent_shape=_latent_shape(entries),
            row_buckets=row_buckets,
        )
        self._entries, self._most = entries, most
        self._places: dict[int, int] = {}  # slot to result
        self._finished: dict[int, Floats] = {}
        self._take_turn()

    @property
    def clock(self) -> Clock:
        """The clock of what computes the steps."""
        return self._slots.clock

    def step(self) -> None:
        """Advance the results whose turn it is; after their last step the next ones enter.

        Raises:
            EngineRunError: A result that is done had predictions that were not finite.
        """
        for slot in self._slots.step():
            if not self._slots.finite(slot):
                raise nonfinite_error()
            self._finished[self._places.pop(slot)] = self._slots.leave(slot)
        if not self._places:
            self._take_turn()

    def _take_turn(self) -> None:
        first = len(self._finished)
        for result, entry in enumerate(self._entries[first : first + self._most], first):
            self._places[self._slots.join(*entry)] = result

    def latents(self) -> Floats:
        """`[results, channels, h, w]`, once all steps are done."""
        return np.stack([self._finished[result] for result in range(len(self._entries))])

    def estimates(self) -> list[Floats | None]:
        """The newest estimate `[channels, h, w]` of each result's latents; None before its turn."""
        slots = {result: slot for slot, result in self._places.items()}
        return [
            self._slots.denoised(slots[result]) if result in slots else self._finished.get(result)
            for result in range(len(self._entries))
        ]


def _most_at_once(step: Step, entries: Sequence[Entry], row_buckets: Sequence[int] | None) -> int:
    """How many results one step takes; 1 also where it does not take any, so that the step says why."""
    return next(
        (
            count
            for count in range(len(entries), 1, -1)
            if _takes(step, count, entries, _rows(entries, count))
            and (row_buckets is None or _rows(entries, count) <= max(row_buckets))
        ),
        1,
    )


def _capacity(step: Step, entries: Sequence[Entry], most: int, row_buckets: Sequence[int] | None) -> int:
    """Empty slots up to the row bucket: matrix products of one size give every request the same bits."""
    if row_buckets is None:
        return most
    rows = row_bucket(_rows(entries, most), row_buckets)
    return rows if _takes(step, rows, entries, rows) else most


def _takes(step: Step, slots: int, entries: Sequence[Entry], rows: int) -> bool:
    try:
        step.check(slots, _latent_shape(entries), (rows, *entries[0].program.per_row["context"].shape[1:]))
    except EngineInputError:
        return False
    return True


def _rows(entries: Sequence[Entry], count: int) -> int:
    return count * entries[0].program.contexts


def _latent_shape(entries: Sequence[Entry]) -> tuple[int, int, int]:
    channels, height, width = entries[0].latents.shape
    return channels, height, width
