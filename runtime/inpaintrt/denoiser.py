"""Denoising of every request in flight: slots hold its state, rows ask the UNet, one step moves them all.

A sampler's step and guidance are linear in the UNet's output, so a step of a whole batch of unrelated
requests is one UNet call between two small matrix products:

    sample     = concat(state[:, 0], condition)[row_slot]
    prediction = UNet(sample, timestep, context)
    guided     = guidance @ prediction
    next_state = update @ (state, guided, noise)

`FusedStep` runs these four lines inside one exported graph, `PlainStep` around a plain UNet. `Slots` plans a
step: rows and matrices. State and condition are kept by a `StepState`, in NumPy or on a device.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from inpaintrt.backends import Array, Engine, KeepsState, StepState
from inpaintrt.errors import EngineInputError, ParameterError
from inpaintrt.samplers import STATE_TENSORS, Table

__all__ = ["FusedStep", "HostState", "PlainStep", "Program", "Slots", "Step", "StepInputs", "row_bucket"]

Floats = NDArray[np.floating]


@dataclass(frozen=True)
class StepInputs:
    """What one step of all slots needs.

    Attributes:
        state: `[slots, 6, channels, h, w]` float32; `state[:, 0]` are the latents, variance-preserving.
        condition: `[slots, 5, h, w]` float32: the mask, then the latents of the masked picture.
        row_slot: `[rows]` int64: the slot that a row belongs to.
        timestep: `[rows]` float32.
        context: `[rows, tokens, width]`: the embedding of the prompt that a row asks for.
        guidance: `[slots, rows]` float32: what a row's prediction counts for in each slot.
        update: `[slots, 6, 8]` float32: the sampler's matrix over state, guided prediction and noise.
        noise: `[slots, channels, h, w]` float32.
    """

    state: NDArray[np.float32]
    condition: NDArray[np.float32]
    row_slot: NDArray[np.int64]
    timestep: NDArray[np.float32]
    context: Floats
    guidance: NDArray[np.float32]
    update: NDArray[np.float32]
    noise: NDArray[np.float32]


class Step(Protocol):
    """One step of all slots."""

    def __call__(self, inputs: StepInputs) -> NDArray[np.float32]:
        """The next state, `[slots, 6, channels, h, w]`."""
        ...

    def open_state(self, slots: int, latent_shape: tuple[int, ...], condition_channels: int) -> StepState:
        """Where the state of some slots is kept between steps."""
        ...


class HostState:
    """State and condition in NumPy.

    Args:
        step: Computes the next state.
        slots: How many there are.
        latent_shape: `(channels, h, w)` of a picture's latents.
        condition_channels: Channels of the mask and of the masked picture's latents together.
    """

    def __init__(
        self, step: Step, slots: int, latent_shape: tuple[int, ...], condition_channels: int
    ) -> None:
        self._step = step
        self._state = np.zeros((slots, STATE_TENSORS, *latent_shape), np.float32)
        self._condition = np.zeros((slots, condition_channels, *latent_shape[1:]), np.float32)

    def write(self, slot: int, latents: NDArray[np.float32], condition: NDArray[np.float32]) -> None:
        """Start a slot afresh."""
        self._state[slot] = 0
        self._state[slot, 0] = latents
        self._condition[slot] = condition

    def read(self, slot: int, tensor: int) -> NDArray[np.float32]:
        """A tensor `[channels, h, w]` of a slot's state."""
        kept: NDArray[np.float32] = self._state[slot, tensor]
        return kept.copy()

    def advance(self, inputs: Mapping[str, Array]) -> None:
        """Replace the state by the next."""
        self._state = self._step(StepInputs(state=self._state, condition=self._condition, **inputs))


class FusedStep:
    """The step as one exported graph."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._context_dtype = np.dtype(engine.inputs["context"].dtype)

    def __call__(self, inputs: StepInputs) -> NDArray[np.float32]:
        """Run the graph."""
        arrays = {**vars(inputs), "context": inputs.context.astype(self._context_dtype, copy=False)}
        next_state: NDArray[np.float32] = self._engine.run(arrays)["next_state"]
        return next_state

    def open_state(self, slots: int, latent_shape: tuple[int, ...], condition_channels: int) -> StepState:
        """The engine's own state where it keeps one, as GPUs do; otherwise in NumPy."""
        if isinstance(self._engine, KeepsState):
            return self._engine.open_state(slots, latent_shape, condition_channels)
        return HostState(self, slots, latent_shape, condition_channels)


class PlainStep:
    """The step in NumPy, around a UNet with the inputs and outputs that optimum gives it."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def __call__(self, inputs: StepInputs) -> NDArray[np.float32]:
        """Gather the rows, run the UNet, guide, update."""
        state = inputs.state
        sample = np.concatenate([state[:, 0], inputs.condition], axis=1)[inputs.row_slot]
        prediction = self._predict(sample, inputs.timestep, inputs.context).astype(np.float32)
        guided = (inputs.guidance @ prediction.reshape(len(prediction), -1)).reshape(state[:, :1].shape)
        columns = np.concatenate([state, guided, inputs.noise[:, None]], axis=1)
        flat = columns.reshape(*columns.shape[:2], -1)
        next_state: NDArray[np.float32] = np.matmul(inputs.update, flat)
        return next_state.reshape(state.shape)

    def open_state(self, slots: int, latent_shape: tuple[int, ...], condition_channels: int) -> StepState:
        """State in NumPy."""
        return HostState(self, slots, latent_shape, condition_channels)

    def _predict(self, sample: Floats, timestep: NDArray[np.float32], context: Floats) -> Floats:
        if self._engine.inputs["timestep"].shape not in ((), (1,)):
            return self._run_unet(sample, timestep, context)
        groups = [np.flatnonzero(timestep == value) for value in np.unique(timestep)]
        outputs = [self._run_unet(sample[rows], timestep[rows[:1]], context[rows]) for rows in groups]
        order = np.argsort(np.concatenate(groups))
        prediction: Floats = np.concatenate(outputs)[order]
        return prediction

    def _run_unet(self, sample: Floats, timestep: NDArray[np.float32], context: Floats) -> Floats:
        specs = self._engine.inputs
        outputs = self._engine.run(
            {
                "sample": sample.astype(specs["sample"].dtype, copy=False),
                "timestep": self._cast_timestep(timestep),
                "encoder_hidden_states": context.astype(specs["encoder_hidden_states"].dtype, copy=False),
            }
        )
        return outputs["out_sample"]

    def _cast_timestep(self, timestep: NDArray[np.float32]) -> NDArray[np.generic]:
        spec = self._engine.inputs["timestep"]
        cast = timestep.astype(spec.dtype)
        if spec.dtype == "int64" and not np.array_equal(cast, timestep):
            raise EngineInputError(
                "this UNet takes whole timesteps only, and the sampler has others",
                received=", ".join(f"{value:g}" for value in np.unique(timestep)),
                expected="whole numbers",
                hint="choose a sampler without sigma ramps or linspace spacing, such as 'ddim', or export "
                "the checkpoint with `inpaintrt export`",
            )
        return cast.reshape(()) if spec.shape == () else cast


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

    @property
    def active(self) -> tuple[int, ...]:
        """Slots with steps left."""
        return tuple(slot for slot, _ in self._running())

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
        self._state.advance(self._inputs(running))
        for _, occupant in running:
            occupant.row += 1
        return tuple(slot for slot, occupant in running if occupant.row == occupant.program.table.rows)

    def _inputs(self, running: Sequence[tuple[int, _Occupant]]) -> dict[str, Array]:
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
            "noise": self._noise(running),
        }

    def _stack_contexts(self, rows: Sequence[_Row]) -> Floats:
        """`[rows, tokens, width]`: the very array of the step before as long as rows ask for the same."""
        key = tuple((row.program, row.context) for row in rows)
        if self._contexts is None or self._contexts[0] != key:
            self._contexts = key, np.stack([program.contexts[context] for program, context in key])
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
