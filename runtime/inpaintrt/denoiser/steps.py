"""One step of all slots: in one exported graph, or in NumPy around a plain UNet."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from inpaintrt.backends import Array, Engine, FixedShapes, KeepsState, RowKey, StepState
from inpaintrt.bundle import CACHED_FEATURE, TensorSpec
from inpaintrt.conditioning import carried, resident, slot_shape
from inpaintrt.denoiser.features import FeatureCache
from inpaintrt.errors import ParameterError
from inpaintrt.samplers import STATE_TENSORS

__all__ = ["FusedStep", "HostState", "PlainStep", "Step"]

Floats = NDArray[np.floating]


class Step(Protocol):
    """One step of all slots."""

    @property
    def inputs(self) -> Mapping[str, TensorSpec]:
        """What a step takes, as `inpaintrt.conditioning.step_inputs` describes it."""
        ...

    @property
    def caches(self) -> bool:
        """Whether evaluations may take the cached features of earlier ones."""
        ...

    def __call__(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        """The next values of the resident inputs that a step carries on, each as `next_NAME`.

        With step caching a full evaluation also gives the rows' cached features, and one that is given them
        is a shallow one.
        """
        ...

    def open_state(self, slots: int, height: int, width: int) -> StepState:
        """Where the resident inputs of some slots of one latent size are kept between steps."""
        ...

    def check(self, slots: int, latent_shape: tuple[int, ...], context_shape: tuple[int, ...]) -> None:
        """Check that one step takes so much.

        Args:
            slots: How many requests.
            latent_shape: `(channels, h, w)` of an image's latents.
            context_shape: `(rows, tokens, width)` of all their prompts' embeddings.

        Raises:
            EngineInputError: The engine was built for less, or for other sizes.
        """
        ...

    def check_timesteps(self, timesteps: NDArray[np.float32]) -> None:
        """Check that the denoiser takes the timesteps `[rows]` of a sampler.

        Raises:
            ParameterError: It takes integers only.
        """
        ...


class HostState:
    """The resident inputs in NumPy.

    Args:
        step: Computes the next state.
        slots: How many there are.
        height: Height of the latents.
        width: Width of the latents.
    """

    def __init__(self, step: Step, slots: int, height: int, width: int) -> None:
        self._step = step
        self._tensors = {
            name: np.zeros((slots, *slot_shape(spec, height, width)), np.float32)
            for name, spec in resident(step.inputs).items()
        }
        self._features = FeatureCache()

    @property
    def on_host(self) -> bool:
        """They are."""
        return True

    def write(self, slot: int, tensors: Mapping[str, Array]) -> None:
        """Give a slot its resident inputs."""
        for name, whole in self._tensors.items():
            whole[slot] = tensors.get(name, 0)

    def read(self, slot: int, tensor: int) -> NDArray[np.float32]:
        """A tensor `[channels, h, w]` of a slot's state."""
        kept: NDArray[np.float32] = self._tensors["state"][slot, tensor]
        return kept.copy()

    def finite(self, slot: int) -> bool:
        """Whether all predictions for a slot were finite."""
        return bool(self._tensors["finite"][slot])

    def advance(
        self, inputs: Mapping[str, Array], *, keep: Mapping[RowKey, int], take: Sequence[RowKey]
    ) -> None:
        """Replace the carried inputs by their next values."""
        taken = {CACHED_FEATURE: self._features.take(take)} if take else {}
        outputs = self._step({**self._tensors, **inputs, **taken})
        self._tensors |= {name: outputs[output] for name, output in carried(outputs).items()}
        if keep:
            self._features.keep(outputs[CACHED_FEATURE], keep)

    def free(self, slot: int) -> None:
        """Forget the cached features of a slot."""
        self._features.free(slot)


class FusedStep:
    """The step as one exported graph.

    Args:
        engine: The denoiser.
        shallow: Its shallow form, for step caching; None where the bundle has none.
    """

    def __init__(self, engine: Engine, shallow: Engine | None = None) -> None:
        self._engine, self._shallow = engine, shallow
        self.inputs = engine.inputs

    @property
    def caches(self) -> bool:
        """Whether there is a shallow form."""
        return self._shallow is not None

    def __call__(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        """Run the graph, or that of the shallow form, which takes some of the inputs only."""
        if self._shallow is None or CACHED_FEATURE not in inputs:
            return self._engine.run(_cast(inputs, self.inputs))
        specs = self._shallow.inputs
        return self._shallow.run(_cast({name: inputs[name] for name in specs}, specs))

    def open_state(self, slots: int, height: int, width: int) -> StepState:
        """The engine's own state where it keeps one, as GPUs do; otherwise in NumPy."""
        if isinstance(self._engine, KeepsState):
            return self._engine.open_state(slots, height, width, self._shallow)
        return HostState(self, slots, height, width)

    def check(self, slots: int, latent_shape: tuple[int, ...], context_shape: tuple[int, ...]) -> None:
        """Ask the engines that were built for some shapes; the shallow form may see no prompt."""
        state = (slots, STATE_TENSORS, *latent_shape)
        shapes = {"state": state, "timestep": context_shape[:1], "context": context_shape}
        engines = [self._engine] if self._shallow is None else [self._engine, self._shallow]
        for engine in engines:
            if isinstance(engine, FixedShapes):
                engine.fit({name: shape for name, shape in shapes.items() if name in engine.inputs})

    def check_timesteps(self, timesteps: NDArray[np.float32]) -> None:
        """The graph takes all of them."""
        del timesteps


def _cast(inputs: Mapping[str, Array], specs: Mapping[str, TensorSpec]) -> dict[str, Array]:
    return {name: array.astype(specs[name].dtype, copy=False) for name, array in inputs.items()}


class PlainStep:
    """The step in NumPy, around a UNet with the inputs and outputs that optimum gives it.

    Args:
        engine: The UNet.
        inputs: What a step takes: the UNet's graph does not say it.
    """

    def __init__(self, engine: Engine, inputs: Mapping[str, TensorSpec]) -> None:
        self._engine = engine
        self.inputs = inputs

    @property
    def caches(self) -> bool:
        """A plain UNet gives its prediction alone."""
        return False

    def __call__(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        """Gather the rows, run the UNet, guide, update, and keep what the mask keeps."""
        state = inputs["state"]
        slots = state[:, 0]
        if "condition" in inputs:
            slots = np.concatenate([slots, inputs["condition"]], axis=1)
        prediction = self._predict(slots[inputs["row_slot"]], inputs).astype(np.float32)
        eps, bad = _zero_nonfinite_rows(prediction.reshape(len(prediction), -1))
        sound = np.abs(inputs["guidance"]) @ bad.astype(np.float32) == 0
        guided = _rescaled(inputs["guidance"] @ eps, inputs["prompt_rows"] @ eps, inputs["guidance_rescale"])
        return {
            "next_state": _updated(state, guided.reshape(slots.shape[0], *state.shape[2:]), inputs),
            "next_finite": inputs["finite"] * sound,
        }

    def open_state(self, slots: int, height: int, width: int) -> StepState:
        """State in NumPy."""
        return HostState(self, slots, height, width)

    def check(self, slots: int, latent_shape: tuple[int, ...], context_shape: tuple[int, ...]) -> None:
        """Ask the engine where it was built for some shapes."""
        del slots  # they are in NumPy, as many as there are
        if isinstance(self._engine, FixedShapes):
            channels = self._engine.inputs["sample"].shape[1]
            sample = (context_shape[0], int(channels), *latent_shape[1:])
            self._engine.fit({"sample": sample, "encoder_hidden_states": context_shape})

    def check_timesteps(self, timesteps: NDArray[np.float32]) -> None:
        """Refuse fractions where the UNet's timesteps are integers."""
        if self._engine.inputs["timestep"].dtype != "int64":
            return
        fractions = timesteps[timesteps % 1 != 0]
        if len(fractions):
            raise ParameterError(
                "this UNet takes integer timesteps only, and the sampler has others",
                received=reprlib.repr(fractions.tolist()),
                expected="integers",
                hint="choose a sampler without a sigma schedule or linspace spacing, such as 'ddim', or "
                "export the checkpoint with `inpaintrt export`",
            )

    def _predict(self, sample: Floats, inputs: Mapping[str, Array]) -> Floats:
        timestep = inputs["timestep"]
        rows = {"encoder_hidden_states": inputs["context"]}
        if "guidance_embedding" in inputs:
            rows["timestep_cond"] = inputs["guidance_embedding"]
        if self._engine.inputs["timestep"].shape not in ((), (1,)):
            return self._run_unet({"sample": sample, **rows}, timestep)
        groups = [np.flatnonzero(timestep == value) for value in np.unique(timestep)]
        outputs = [
            self._run_unet(
                {"sample": sample[group], **{name: array[group] for name, array in rows.items()}},
                timestep[group[:1]],
            )
            for group in groups
        ]
        order = np.argsort(np.concatenate(groups))
        prediction: Floats = np.concatenate(outputs)[order]
        return prediction

    def _run_unet(self, rows: Mapping[str, Floats], timestep: NDArray[np.float32]) -> Floats:
        specs = self._engine.inputs
        outputs = self._engine.run(
            {
                "timestep": self._cast_timestep(timestep),
                **{name: array.astype(specs[name].dtype, copy=False) for name, array in rows.items()},
            }
        )
        return outputs["out_sample"]

    def _cast_timestep(self, timestep: NDArray[np.float32]) -> NDArray[np.generic]:
        spec = self._engine.inputs["timestep"]
        cast = timestep.astype(spec.dtype)
        return cast.reshape(()) if spec.shape == () else cast


def _zero_nonfinite_rows(eps: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    """The rows `[rows, values]` with zeros for those that are not finite, and which those are.

    A weight of 0 does not keep a row out of a sum, since 0 * NaN is NaN.
    """
    bad: NDArray[np.bool_] = ~np.all(np.isfinite(eps), axis=1)
    cleaned: Floats = np.where(bad[:, None], np.float32(0), eps) if bad.any() else eps
    return cleaned, bad


def _rescaled(guided: Floats, own: Floats, phi: NDArray[np.float32]) -> Floats:
    """Give guided predictions the deviation of the prompt's own (arXiv:2305.08891, equations 15 and 16)."""
    if not phi.any():
        return guided
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = own.std(axis=1) / guided.std(axis=1)
    factor = np.where(phi > 0, phi * (ratio - 1) + 1, 1).astype(np.float32)
    return guided * factor[:, None]


def _updated(state: Floats, guided: Floats, inputs: Mapping[str, Array]) -> Floats:
    """The next state: the product with the sampler's matrix, and the gate."""
    added = [
        tensor[:, None]
        for tensor in (guided, inputs["noise"], inputs["image_latents"], inputs["first_noise"])
    ]
    columns = np.concatenate([state, *added], axis=1)
    product = np.matmul(inputs["update"], columns.reshape(*columns.shape[:2], -1))
    tensors = product.reshape(len(state), -1, *state.shape[2:])
    next_state: Floats = tensors[:, :STATE_TENSORS]
    free = inputs["mask"] >= inputs["threshold"][:, None, None, None]
    if not free.all():
        next_state[:, 0] = np.where(free, next_state[:, 0], tensors[:, STATE_TENSORS])
    return next_state
