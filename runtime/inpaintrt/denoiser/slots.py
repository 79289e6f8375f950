"""The requests in flight: slots hold their state, rows ask the UNet, and each is at a step of its own."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from inpaintrt.backends import Array, Clock, RowKey
from inpaintrt.conditioning import GATED_COLUMNS, GATED_ROWS, named
from inpaintrt.denoiser.steps import Step
from inpaintrt.errors import EngineInputError, EngineRunError, ParameterError
from inpaintrt.samplers import Table
from inpaintrt.timing import HostClock

__all__ = ["Entry", "Program", "Slots", "nonfinite_error", "row_bucket"]

Floats = NDArray[np.floating]


@dataclass(frozen=True, eq=False)
class Program:
    """What one slot does from its first step to its last.

    Attributes:
        table: The sampler's table.
        weights: `[rows, contexts]` float32: guidance; a context of weight 0 is not evaluated in that row.
            The last context is the prompt's own.
        per_row: What the denoiser is conditioned on, by name: `[contexts, ...]` each, `context`
            `[contexts, tokens, width]` among them.
        noise: Gives the noise `[channels, h, w]` of a row; called only where the sampler uses it.
        thresholds: `[rows]` float32: after a row, latent pixels may change where the mask is at least so
            much.
        guidance_rescale: phi of arXiv:2305.08891, section 3.4.
        shallow: `[rows]`, which evaluations take the cached features of earlier ones, see
            `inpaintrt.denoiser.features.shallow_rows`; None for none.
    """

    table: Table
    weights: NDArray[np.float32]
    per_row: Mapping[str, Floats]
    noise: Callable[[int], NDArray[np.float32]]
    thresholds: NDArray[np.float32]
    guidance_rescale: float = 0.0
    shallow: NDArray[np.bool_] | None = None

    @property
    def contexts(self) -> int:
        """The maximum number of UNet rows that a step needs."""
        return int(self.weights.shape[1])

    @cached_property
    def evaluated(self) -> tuple[tuple[int, ...], ...]:
        """The contexts that the UNet is asked for in each row."""
        return tuple(tuple(np.flatnonzero(weights).tolist()) for weights in self.weights)

    def is_shallow(self, row: int) -> bool:
        """Whether the evaluation of a row, which may be the one after the last, takes cached features."""
        return self.shallow is not None and row < len(self.shallow) and bool(self.shallow[row])


class Entry(NamedTuple):
    """What a result enters a slot with: the arguments of `Slots.join`.

    Attributes:
        program: What to do.
        latents: `[channels, h, w]` float32, the first state, in variance-preserving scale.
        residents: The other resident inputs of its slot by name, without the axis of the slots.
    """

    program: Program
    latents: NDArray[np.float32]
    residents: Mapping[str, NDArray[np.float32]]


@dataclass
class _Occupant:
    program: Program
    row: int = 0

    @property
    def shallow(self) -> bool:
        """Whether its next evaluation takes cached features."""
        return self.program.is_shallow(self.row)


_Running = Sequence[tuple[int, _Occupant]]
"""Occupants that step together, each with its slot."""


class _Row(NamedTuple):
    """One evaluation of the UNet: for which slot, and which context of its program."""

    slot: int
    program: Program
    context: int


_IDENTITY_UPDATE = np.eye(GATED_ROWS, GATED_COLUMNS, dtype=np.float32)
"""The matrix of a step that changes nothing."""


def _clock_of(state: object) -> Clock:
    return state if isinstance(state, Clock) else HostClock()


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
        hint="ask for fewer images at once, or build an engine for more rows",
    )


class Slots:
    """The requests in flight at one image size, each at a step of its own.

    Not for several threads at once: whoever owns the slots steps them.

    Args:
        step: Computes a step of all slots.
        capacity: How many requests fit.
        latent_shape: `(channels, h, w)` of an image's latents.
        row_buckets: Numbers of rows that the engine is built for; rows are padded up to the next. None: any.

    Attributes:
        clock: The clock of what computes the steps, which on a device are not done when `step` returns.
    """

    def __init__(
        self,
        step: Step,
        *,
        capacity: int,
        latent_shape: tuple[int, int, int],
        row_buckets: Sequence[int] | None = None,
    ) -> None:
        self._state = step.open_state(capacity, *latent_shape[1:])
        self.clock = _clock_of(self._state)
        self._specs = step.inputs
        self._occupants: list[_Occupant | None] = [None] * capacity
        self._row_buckets = row_buckets
        self._zero_noise = np.zeros((capacity, *latent_shape), np.float32)
        self._identities = np.tile(_IDENTITY_UPDATE, (capacity, 1, 1))
        self._repeated: dict[bool, tuple[tuple[_Row, ...], dict[str, Array]]] = {}

    @property
    def active(self) -> tuple[int, ...]:
        """Slots with steps left."""
        return tuple(slot for slot, _ in self._running())

    @property
    def on_host(self) -> bool:
        """Whether the state is in main memory, where reading it waits for nothing."""
        return self._state.on_host

    def _running(self) -> list[tuple[int, _Occupant]]:
        return [
            (slot, occupant)
            for slot, occupant in enumerate(self._occupants)
            if occupant is not None and occupant.row < occupant.program.table.rows
        ]

    def join(
        self, program: Program, latents: NDArray[np.float32], residents: Mapping[str, NDArray[np.float32]]
    ) -> int:
        """Take a request in before the next step; the arguments are the fields of an `Entry`.

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
        state = np.zeros((self._specs["state"].shape[1], *latents.shape), np.float32)
        state[0] = latents
        self._state.write(slot, {"state": state, "finite": np.ones((), np.float32), **residents})
        return slot

    def leave(self, slot: int) -> NDArray[np.float32]:
        """Free a slot, finished or not, and return its latents `[channels, h, w]`."""
        self._occupants[slot] = None
        self._state.free(slot)
        return self._state.read(slot, 0)

    def denoised(self, slot: int) -> NDArray[np.float32]:
        """The newest estimate `[channels, h, w]` of the finished latents, for previews."""
        return self._state.read(slot, -1)

    def finite(self, slot: int) -> bool:
        """Whether every prediction for a slot was finite; those that were not counted as zero."""
        return self._state.finite(slot)

    def nonfinite(self) -> tuple[int, ...]:
        """Slots with predictions that were not finite: those of all slots if they are known on the host.

        Of a state on a device only slots that have no step left are read, since reading waits for the device.
        """
        return tuple(
            slot
            for slot, occupant in enumerate(self._occupants)
            if occupant is not None
            and (self._state.on_host or occupant.row == occupant.program.table.rows)
            and not self._state.finite(slot)
        )

    def step(self) -> tuple[int, ...]:
        """Advance every active slot by one row of its table.

        Full and shallow evaluations are two networks, which run one after the other.

        Returns:
            The slots that this step has finished.
        """
        running = self._running()
        for shallow, part in self._parts().items():
            self._advance(part, shallow=shallow)
        return tuple(slot for slot, occupant in running if occupant.row == occupant.program.table.rows)

    @property
    def row_counts(self) -> tuple[int, ...]:
        """How many rows each evaluation of the next step has: one evaluation, or a full and a shallow one."""
        return tuple(len(_rows(part)) for part in self._parts().values())

    def _parts(self) -> dict[bool, _Running]:
        """The active slots, by whether their next evaluation is shallow; the full ones come first."""
        running = self._running()
        parts = {
            shallow: [each for each in running if each[1].shallow is shallow] for shallow in (False, True)
        }
        return {shallow: part for shallow, part in parts.items() if part}

    def _advance(self, part: _Running, *, shallow: bool) -> None:
        rows = _rows(part)
        inputs = self._inputs(part, rows, shallow=shallow)
        keys = [RowKey(row.slot, row.context) for row in rows]
        padded = keys + keys[:1] * (len(inputs["timestep"]) - len(keys))
        lasting = {slot for slot, occupant in part if occupant.program.is_shallow(occupant.row + 1)}
        kept = {} if shallow else {key: row for row, key in enumerate(keys) if key.slot in lasting}
        self._state.advance(inputs, keep=kept, take=padded if shallow else ())
        for _, occupant in part:
            occupant.row += 1

    def _inputs(self, running: _Running, rows: tuple[_Row, ...], *, shallow: bool) -> dict[str, Array]:
        """All inputs of a step but those that are kept from step to step."""
        repeated = self._repeat(rows, shallow=shallow)
        guidance = np.zeros_like(repeated["prompt_rows"])
        timestep = np.zeros(guidance.shape[1], np.float32)
        steps = {slot: occupant.row for slot, occupant in running}
        for column, (slot, program, context) in enumerate(rows):
            step = steps[slot]
            guidance[slot, column] = program.weights[step, context]
            timestep[column] = program.table.timesteps[step]
        timestep[len(rows) :] = timestep[0]
        update, threshold = self._identities.copy(), np.zeros(len(self._occupants), np.float32)
        for slot, occupant in running:
            update[slot] = occupant.program.table.gated_update[occupant.row]
            threshold[slot] = occupant.program.thresholds[occupant.row]
        return {
            **repeated,
            "timestep": timestep,
            "guidance": guidance,
            "update": update,
            "threshold": threshold,
            "noise": self._noise(running),
        }

    def _repeat(self, rows: tuple[_Row, ...], *, shallow: bool) -> dict[str, Array]:
        """What stays the same, the identical arrays, as long as steps ask for the same rows."""
        if shallow not in self._repeated or self._repeated[shallow][0] != rows:
            self._repeated[shallow] = rows, self._make_repeated(rows)
        return self._repeated[shallow][1]

    def _make_repeated(self, rows: tuple[_Row, ...]) -> dict[str, Array]:
        padded = rows + rows[:1] * (row_bucket(len(rows), self._row_buckets) - len(rows))
        prompt_rows = np.zeros((len(self._occupants), len(padded)), np.float32)
        rescale = np.zeros(len(self._occupants), np.float32)
        for column, (slot, program, context) in enumerate(rows):
            prompt_rows[slot, column] = context == program.contexts - 1
            rescale[slot] = program.guidance_rescale
        return {
            "row_slot": np.array([row.slot for row in padded], np.int64),
            "prompt_rows": prompt_rows,
            "guidance_rescale": rescale,
            **{
                name: _stack(
                    [program.per_row[name][context] for _, program, context in padded],
                    repeated="tokens" in self._specs[name].shape,
                )
                for name in named(self._specs, "per_row")
            },
        }

    def _noise(self, running: _Running) -> NDArray[np.float32]:
        """`[slots, channels, h, w]`; the very same array in all steps without noise."""
        noisy = [(slot, each) for slot, each in running if each.program.table.uses_noise[each.row]]
        noise = np.zeros_like(self._zero_noise) if noisy else self._zero_noise
        for slot, occupant in noisy:
            noise[slot] = occupant.program.noise(occupant.row)
        return noise


def _rows(running: _Running) -> tuple[_Row, ...]:
    """The rows of the next evaluation."""
    return tuple(
        _Row(slot, occupant.program, context)
        for slot, occupant in running
        for context in occupant.program.evaluated[occupant.row]
    )


def nonfinite_error() -> EngineRunError:
    """The error for a result whose predictions were not all finite."""
    return EngineRunError(
        "the network gives NaN or infinite values for this request",
        hint="in half precision the network may overflow: export it in float32",
    )


def _stack(arrays: Sequence[Floats], *, repeated: bool) -> Floats:
    """One array of arrays, whose first axis is brought to one length if they may be `repeated`.

    Attention to a context that is there twice is attention to that context, so shorter ones are repeated
    until all have the same length.
    """
    if not repeated:
        return np.stack(arrays)
    tokens = math.lcm(*(len(array) for array in arrays))
    return np.stack([np.tile(array, (tokens // len(array), 1)) for array in arrays])
