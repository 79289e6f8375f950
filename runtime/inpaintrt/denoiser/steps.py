"""One step of all slots: in one exported graph, or in NumPy around a plain UNet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from inpaintrt.backends import Array, Engine, FixedShapes, KeepsState, StepState
from inpaintrt.errors import EngineInputError
from inpaintrt.samplers import STATE_TENSORS

__all__ = ["FusedStep", "HostState", "PlainStep", "Step", "StepInputs"]

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

    def check(self, slots: int, latent_shape: tuple[int, ...], context_shape: tuple[int, ...]) -> None:
        """Check that one step takes so much.

        Args:
            slots: How many requests.
            latent_shape: `(channels, h, w)` of a picture's latents.
            context_shape: `(rows, tokens, width)` of all their prompts' embeddings.

        Raises:
            EngineInputError: The engine was built for less, or for other sizes.
        """
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
        self._state = self._before = np.zeros((slots, STATE_TENSORS, *latent_shape), np.float32)
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
        next_state = self._step(StepInputs(state=self._state, condition=self._condition, **inputs))
        self._before, self._state = self._state, next_state

    def undo(self) -> None:
        """Go back to the state before the last step."""
        self._state = self._before


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

    def check(self, slots: int, latent_shape: tuple[int, ...], context_shape: tuple[int, ...]) -> None:
        """Ask the engine where it was built for some shapes."""
        if isinstance(self._engine, FixedShapes):
            self._engine.fit({"state": (slots, STATE_TENSORS, *latent_shape), "context": context_shape})


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

    def check(self, slots: int, latent_shape: tuple[int, ...], context_shape: tuple[int, ...]) -> None:
        """Ask the engine where it was built for some shapes."""
        del slots  # they are in NumPy, as many as there are
        if isinstance(self._engine, FixedShapes):
            channels = self._engine.inputs["sample"].shape[1]
            sample = (context_shape[0], int(channels), *latent_shape[1:])
            self._engine.fit({"sample": sample, "encoder_hidden_states": context_shape})

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
