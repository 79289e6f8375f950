"""How many results of one request a step takes at once."""

from __future__ import annotations

from collections.abc import Sequence

from inpaintrt.denoiser.slots import Entry, Slots, row_bucket
from inpaintrt.denoiser.steps import Step
from inpaintrt.errors import EngineInputError

__all__ = ["micro_batch_size", "open_slots"]


def micro_batch_size(step: Step, entries: Sequence[Entry], row_buckets: Sequence[int] | None) -> int:
    """How many results one step takes; 1 also where it does not take any, so that the step says why.

    Args:
        step: Computes a step of all slots.
        entries: The results; their programs have the same table and as many contexts.
        row_buckets: Numbers of rows to pad a step to; None for exactly as many as there are.
    """
    return next(
        (
            count
            for count in range(len(entries), 1, -1)
            if _takes(step, count, entries, _rows(entries, count))
            and (row_buckets is None or _rows(entries, count) <= max(row_buckets))
        ),
        1,
    )


def open_slots(step: Step, entries: Sequence[Entry], size: int, row_buckets: Sequence[int] | None) -> Slots:
    """Slots for micro-batches of `size` entries; other arguments as for `micro_batch_size`."""
    return Slots(
        step,
        capacity=_capacity(step, entries, size, row_buckets),
        latent_shape=_latent_shape(entries),
        row_buckets=row_buckets,
    )


def _capacity(step: Step, entries: Sequence[Entry], size: int, row_buckets: Sequence[int] | None) -> int:
    """Empty slots up to the row bucket: matrix products of one size give every request the same bits."""
    if row_buckets is None:
        return size
    rows = row_bucket(_rows(entries, size), row_buckets)
    return rows if _takes(step, rows, entries, rows) else size


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
