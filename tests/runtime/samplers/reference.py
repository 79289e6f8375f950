"""diffusers' schedulers, run the way its inpainting pipeline runs them, and tables, run as the denoiser does.

The UNet is a fixed nonlinear function of latent and timestep. Everything is float64: where diffusers keeps
its tables in float32, the same numbers are handed to it in float64, so that what is compared is the sampler
and not float32.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import diffusers
import numpy as np
import torch
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion_inpaint import retrieve_timesteps
from numpy.typing import NDArray

from inpaintrt.samplers import STATE_TENSORS, Table

FloatArray = NDArray[np.float64]

SHAPE = (1, 4, 3, 2)
SIZE = int(np.prod(SHAPE))
WEIGHTS = np.random.default_rng(7).normal(size=(SIZE, SIZE)) / np.sqrt(SIZE)
PHASES = np.random.default_rng(8).uniform(0.0, 6.0, size=SIZE)
IMAGE = np.random.default_rng(9).normal(size=SHAPE)
FIRST_NOISE = np.random.default_rng(10).normal(size=SHAPE)

BETAS: Mapping[str, object] = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
DOUBLED = (
    "sigmas",
    "sigmas_interpol",
    "sigmas_up",
    "sigmas_down",
    "alphas_cumprod",
    "final_alpha_cumprod",
    "one",
)


_SCHEDULERS: dict[str, Any] = {}


def unet(x: FloatArray, timestep: float) -> FloatArray:
    """A UNet in miniature: nonlinear in x, smooth in the timestep."""
    flat = x.reshape(-1)
    output: FloatArray = np.tanh(WEIGHTS @ flat + 0.5 * np.sin(timestep / 150.0 + PHASES)) + 0.1 * flat
    return output.reshape(SHAPE)


@dataclass
class Run:
    """What a sampler did: the timesteps, the latent handed to the VAE, and the denoised estimates."""

    timesteps: list[float] = field(default_factory=list)
    latent: FloatArray = field(default_factory=lambda: np.zeros(SHAPE))
    estimates: list[FloatArray] = field(default_factory=list)


def diffusers_scheduler(
    config: Mapping[str, object], class_name: str | None = None, **changes: object
) -> Any:
    """A diffusers scheduler made from a configuration with changes.

    Each is made once and copied, since some compute a schedule of all training timesteps when they are made.
    """
    name = class_name if class_name is not None else str(config["_class_name"])
    key = repr((name, sorted(config.items()), sorted(changes.items())))
    if key not in _SCHEDULERS:
        _SCHEDULERS[key] = getattr(diffusers, name).from_config(dict(config), **changes)
    return copy.deepcopy(_SCHEDULERS[key])


def run_diffusers(
    scheduler: Any,
    steps: int | None,
    *,
    strength: float = 1.0,
    eta: float = 0.0,
    latents: FloatArray | None = None,
    mask: FloatArray | None = None,
    given: Mapping[str, Sequence[float]] | None = None,
) -> Run:
    """Sample with diffusers, in the order of StableDiffusionInpaintPipeline.__call__.

    With a mask, 1 where the image is painted, the UNet counts as one of 4 channels: what the mask leaves out
    is the noised original after every step. `given` holds timesteps or sigmas.
    """
    _, count = retrieve_timesteps(scheduler, steps, **(given or {}))
    for name in DOUBLED:
        if hasattr(scheduler, name):
            setattr(scheduler, name, getattr(scheduler, name).double())
    begin = max(count - min(int(count * strength), count), 0) * scheduler.order
    timesteps = scheduler.timesteps[begin:]
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(begin)
    x = _first_latent(scheduler, timesteps, strength, latents)
    options: dict[str, object] = {}
    accepted = inspect.signature(scheduler.step).parameters
    if "generator" in accepted:
        options["generator"] = torch.Generator().manual_seed(0)
    if "eta" in accepted:
        options["eta"] = eta
    run = Run()
    noise = FIRST_NOISE if latents is None else latents
    for i, t in enumerate(timesteps):
        scaled = scheduler.scale_model_input(x, t)
        output = torch.from_numpy(unet(scaled.numpy(), float(t)))
        result = scheduler.step(output, t, x, **options)
        x = result.prev_sample.double()
        if mask is not None:
            x = torch.from_numpy(mask) * x + torch.from_numpy(1.0 - mask) * _original(
                scheduler, noise, timesteps[i + 1 : i + 2]
            )
        run.timesteps.append(float(t))
        if getattr(result, "pred_original_sample", None) is not None:
            run.estimates.append(result.pred_original_sample.double().numpy())
    run.latent = x.numpy()
    return run


def _first_latent(scheduler: Any, timesteps: Any, strength: float, latents: FloatArray | None) -> Any:
    if latents is not None:
        return torch.from_numpy(latents) * float(scheduler.init_noise_sigma)
    noise = torch.from_numpy(FIRST_NOISE)
    if strength == 1.0:
        return noise * float(scheduler.init_noise_sigma)
    return scheduler.add_noise(torch.from_numpy(IMAGE), noise, timesteps[:1])


def _original(scheduler: Any, noise: FloatArray, next_timestep: Any) -> Any:
    image = torch.from_numpy(IMAGE)
    if len(next_timestep) == 0:
        return image
    return scheduler.add_noise(image, torch.from_numpy(noise), next_timestep)


def run_table(
    table: Table,
    *,
    latents: FloatArray | None = None,
    mask: FloatArray | None = None,
    noise_dtype: torch.dtype = torch.float64,
) -> Run:
    """Sample with a table: a few lines of linear algebra around the UNet."""
    gate = np.ones(SIZE) if mask is None else mask.reshape(-1)
    original = np.stack([IMAGE, FIRST_NOISE if latents is None else latents]).reshape(2, SIZE)
    generator = torch.Generator().manual_seed(0)
    state = np.full((STATE_TENSORS, SIZE), 1e6)
    first = table.init.signal * IMAGE + table.init.noise * FIRST_NOISE
    state[0] = (first if latents is None else table.init.latents * latents).reshape(-1)
    run = Run()
    for timestep, update, uses_noise in zip(
        table.timesteps, table.gated_update, table.uses_noise, strict=True
    ):
        output = unet(state[0].reshape(SHAPE), float(timestep)).reshape(1, SIZE)
        noise = torch.zeros(SHAPE)
        if uses_noise:
            noise = torch.randn(SHAPE, generator=generator, dtype=noise_dtype)
        drawn = noise.double().numpy().reshape(1, SIZE)
        state = update @ np.concatenate([state, output, drawn, original])
        state[0] = gate * state[0] + (1.0 - gate) * state[STATE_TENSORS]
        state = state[:STATE_TENSORS]
        run.timesteps.append(float(timestep))
        run.estimates.append(state[STATE_TENSORS - 1].reshape(SHAPE))
    run.latent = state[0].reshape(SHAPE)
    return run


def relative_error(received: FloatArray, expected: FloatArray) -> float:
    """Largest difference, relative to the largest value."""
    return float(np.max(np.abs(received - expected)) / np.max(np.abs(expected)))
