from __future__ import annotations

from collections.abc import Mapping

import diffusers
import numpy as np
import pytest

from inpaintrt.samplers.config import Training
from inpaintrt.samplers.schedule import alphas_cumprod, timesteps_of, training_sigmas
from runtime.samplers.reference import BETAS

SCHEDULES: tuple[Mapping[str, object], ...] = (
    BETAS,
    {"beta_schedule": "linear", "beta_start": 0.0001, "beta_end": 0.02},
    {"beta_schedule": "squaredcos_cap_v2"},
    {"trained_betas": np.linspace(0.0002, 0.015, 1000).tolist()},
)


def training_of(scheduler: diffusers.DDIMScheduler) -> Training:
    config = scheduler.config
    betas = config["trained_betas"]
    return Training(
        config["num_train_timesteps"],
        config["beta_start"],
        config["beta_end"],
        config["beta_schedule"],
        tuple(betas) if betas is not None else None,
        config["rescale_betas_zero_snr"],
    )


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("rescale", [False, True])
def test_alphas_are_diffusers_to_the_last_float32_digits(
    schedule: Mapping[str, object], rescale: bool
) -> None:
    scheduler = diffusers.DDIMScheduler(**schedule, rescale_betas_zero_snr=rescale)
    received = alphas_cumprod(training_of(scheduler))
    np.testing.assert_allclose(received, scheduler.alphas_cumprod.numpy(), rtol=2e-6, atol=6e-8)
    assert (received[-1] == 0.0) == rescale


@pytest.mark.parametrize("rescale", [False, True])
def test_sigmas_are_diffusers(rescale: bool) -> None:
    scheduler = diffusers.UniPCMultistepScheduler(**BETAS, rescale_betas_zero_snr=rescale)
    received = training_sigmas(training_of(scheduler))
    np.testing.assert_allclose(received, scheduler.sigmas.numpy(), rtol=1e-4 if rescale else 1e-6)
    assert received[-1] == pytest.approx(4096.0 if rescale else 14.6, rel=1e-2)


def test_cached_tables_cannot_be_written() -> None:
    training = Training(1000, 0.00085, 0.012, "scaled_linear")
    assert not alphas_cumprod(training).flags.writeable
    assert not training_sigmas(training).flags.writeable


def test_sigmas_outside_of_training_get_its_first_and_last_timestep() -> None:
    sigmas = training_sigmas(Training(1000, 0.00085, 0.012, "scaled_linear"))
    wanted = np.array([0.0, float(sigmas[0]), float(sigmas[500]), 1e6])
    np.testing.assert_allclose(timesteps_of(wanted, sigmas), [0.0, 0.0, 500.0, 999.0], atol=1e-3)
