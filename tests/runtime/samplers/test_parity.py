"""The latents that tables give are those that diffusers' schedulers give, over whole trajectories."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product

import numpy as np
import pytest
import torch

from inpaintrt.samplers import compile_table
from inpaintrt.samplers.names import TAKES_TIMESTEP_SPACING
from runtime.samplers.configurations import (
    EPSILON,
    FAMILIES,
    SIGMA_SCHEDULES,
    SPACINGS,
    VELOCITY,
    Options,
    configuration,
    label,
    options_of_every_class,
)
from runtime.samplers.reference import (
    SHAPE,
    diffusers_scheduler,
    relative_error,
    run_diffusers,
    run_table,
)

# diffusers hands torch tensors to NumPy, which NumPy 2 wants announced.
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning:diffusers.schedulers",
    "ignore:__array_wrap__ must accept context and return_scalar:DeprecationWarning",
)

TOLERANCE = 1e-4
ZERO_SNR = (
    "DDIMScheduler",
    "DDPMScheduler",
    "DPMSolverMultistepScheduler",
    "EulerAncestralDiscreteScheduler",
    "EulerDiscreteScheduler",
    "LCMScheduler",
    "TCDScheduler",
    "UniPCMultistepScheduler",
)


def check(
    config: Mapping[str, object],
    steps: int,
    strength: float = 1.0,
    eta: float = 0.0,
    timestep_spacing: str | None = None,
) -> None:
    """Compare timesteps, latent and denoised estimates of one configuration."""
    changes = {} if timestep_spacing is None else {"timestep_spacing": timestep_spacing}
    expected = run_diffusers(diffusers_scheduler(config, **changes), steps, strength=strength, eta=eta)
    # DPMSolverMultistepScheduler draws float32 whatever the latent is, the others draw the latent's dtype.
    is_float32 = config["_class_name"] == "DPMSolverMultistepScheduler"
    table = compile_table(config, None, steps, strength=strength, eta=eta, timestep_spacing=timestep_spacing)
    received = run_table(table, noise_dtype=torch.float32 if is_float32 else torch.float64)
    # diffusers gets the second timestep of a KDPM2 ancestral step from a float32 difference of like sigmas.
    tolerance = 0.02 if config["_class_name"] == "KDPM2AncestralDiscreteScheduler" else 1e-3
    np.testing.assert_allclose(received.timesteps, expected.timesteps, rtol=0.0, atol=tolerance)
    assert relative_error(received.latent, expected.latent) < TOLERANCE
    # TCD gives no estimate, LCM's is blended with the latent, Euler's is another name for the same.
    for ours, theirs in zip(received.estimates, expected.estimates, strict=bool(expected.estimates)):
        assert relative_error(ours, theirs) < TOLERANCE


@pytest.mark.parametrize("config", list(options_of_every_class()), ids=label)
def test_every_spacing_sigma_schedule_and_prediction_type(config: Options) -> None:
    check(config, 7)
    check(config, 9, strength=0.6)


@pytest.mark.parametrize("timestep_spacing", ["leading", "linspace", "trailing"])
@pytest.mark.parametrize("class_name", sorted(TAKES_TIMESTEP_SPACING))
def test_timestep_spacing_is_from_config_with_another_spacing(class_name: str, timestep_spacing: str) -> None:
    for configured in SPACINGS:
        config = configuration(class_name, configured, VELOCITY)
        check(config, 4, timestep_spacing=timestep_spacing)
        check(config, 9, strength=0.6, timestep_spacing=timestep_spacing)


@pytest.mark.parametrize("class_name", FAMILIES)
@pytest.mark.parametrize("steps", [1, 2, 4, 20, 50])
def test_every_number_of_steps(class_name: str, steps: int) -> None:
    config = configuration(class_name, FAMILIES[class_name][1][0], VELOCITY)
    check(config, steps)
    if steps > 1:
        check(config, steps, strength=0.6)
    if steps == 50:
        check(config, steps, strength=0.02)


@pytest.mark.parametrize("class_name", ["DDIMScheduler", "EulerDiscreteScheduler"])
def test_nearly_every_training_timestep(class_name: str) -> None:
    check(configuration(class_name, SPACINGS[0], EPSILON), 999)


@pytest.mark.parametrize("class_name", ZERO_SNR)
@pytest.mark.parametrize("steps", [1, 7])
def test_zero_terminal_snr(class_name: str, steps: int) -> None:
    zero: Options = {"rescale_betas_zero_snr": True}
    spacing = {} if class_name in ("LCMScheduler", "TCDScheduler") else SPACINGS[2]
    check(configuration(class_name, spacing, VELOCITY, zero), steps)
    if steps > 1:
        check(configuration(class_name, spacing, VELOCITY, zero), steps, strength=0.6)


@pytest.mark.parametrize("class_name", FAMILIES)
@pytest.mark.parametrize(
    "betas",
    [
        {"beta_schedule": "linear", "beta_start": 0.0001, "beta_end": 0.02},
        {"beta_schedule": "squaredcos_cap_v2"},
        {"trained_betas": np.linspace(0.0002, 0.015, 500).tolist(), "num_train_timesteps": 500},
    ],
    ids=["linear", "cosine", "trained"],
)
def test_every_schedule_of_betas(class_name: str, betas: Options) -> None:
    spacing: Options = {"timestep_spacing": "leading"}  # The steepest part of the cosine is then left out.
    check(configuration(class_name, betas, VELOCITY, spacing), 10)


@pytest.mark.parametrize("eta", [0.3, 1.0])
@pytest.mark.parametrize("class_name", ["DDIMScheduler", "TCDScheduler"])
@pytest.mark.parametrize("strength", [1.0, 0.6])
def test_eta(class_name: str, eta: float, strength: float) -> None:
    check(configuration(class_name), 8, strength=strength, eta=eta)


@pytest.mark.parametrize("set_alpha_to_one", [True, False])
@pytest.mark.parametrize("class_name", ["DDIMScheduler", "PNDMScheduler", "LCMScheduler", "TCDScheduler"])
def test_final_alpha(class_name: str, set_alpha_to_one: bool) -> None:
    check(configuration(class_name, {"set_alpha_to_one": set_alpha_to_one}), 6)


@pytest.mark.parametrize("variance_type", ["fixed_small", "fixed_small_log", "fixed_large", None])
def test_ddpm_variance(variance_type: str | None) -> None:
    check(configuration("DDPMScheduler", {"variance_type": variance_type}), 6)
    check(configuration("DDPMScheduler", {"variance_type": variance_type}, SPACINGS[0]), 6)


MULTISTEP, SINGLESTEP = "DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler"
DPM_SOLVERS = (
    *product((MULTISTEP, SINGLESTEP), ("dpmsolver++", "sde-dpmsolver++", "dpmsolver"), (1, 2, 3)),
    (MULTISTEP, "sde-dpmsolver", 1),
    (MULTISTEP, "sde-dpmsolver", 2),
)


@pytest.mark.parametrize(("class_name", "algorithm_type", "solver_order"), DPM_SOLVERS)
@pytest.mark.parametrize("solver_type", ["midpoint", "heun"])
@pytest.mark.filterwarnings("ignore:.*algorithm_type.* is deprecated:FutureWarning")
def test_dpmsolver(class_name: str, algorithm_type: str, solver_order: int, solver_type: str) -> None:
    solver: Options = {
        "algorithm_type": algorithm_type,
        "solver_type": solver_type,
        "solver_order": solver_order,
    }
    endings: list[Options] = [{"final_sigmas_type": "sigma_min"}]
    if algorithm_type.endswith("++"):
        endings.append({"final_sigmas_type": "zero"})
    for ending, steps in product(endings, (7, 18)):
        check(configuration(class_name, solver, ending), steps)
        check(configuration(class_name, solver, ending), steps, strength=0.7)


@pytest.mark.parametrize("lower_order_final", [True, False])
@pytest.mark.parametrize("euler_at_final", [True, False])
@pytest.mark.parametrize("steps", [6, 16])
def test_dpmsolver_multistep_endings(lower_order_final: bool, euler_at_final: bool, steps: int) -> None:
    ending: Options = {"lower_order_final": lower_order_final, "euler_at_final": euler_at_final}
    for order in (2, 3):
        check(configuration("DPMSolverMultistepScheduler", ending, {"solver_order": order}), steps)


@pytest.mark.parametrize("class_name", ["DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler"])
@pytest.mark.parametrize("steps", [5, 12])
def test_lambda_min_clipped(class_name: str, steps: int) -> None:
    """With "trailing" diffusers takes fewer steps than asked for, ours likewise."""
    clipped: Options = {"lambda_min_clipped": -1.7, "beta_schedule": "squaredcos_cap_v2"}
    check(configuration(class_name, clipped), steps)
    if "Multi" in class_name:
        check(configuration(class_name, clipped, SPACINGS[0]), steps)
        check(configuration(class_name, clipped, SPACINGS[2]), steps)


@pytest.mark.parametrize("lower_order_final", [True, False])
@pytest.mark.parametrize("solver_order", [1, 2, 3])
@pytest.mark.parametrize("steps", [1, 2, 3, 4, 5, 6, 9])
def test_dpmsolver_singlestep_orders(lower_order_final: bool, solver_order: int, steps: int) -> None:
    solver: Options = {"solver_order": solver_order, "lower_order_final": lower_order_final}
    for ending in ("zero", "sigma_min"):
        config = configuration("DPMSolverSinglestepScheduler", solver, {"final_sigmas_type": ending})
        check(config, steps)
        if steps > 3:
            check(config, steps, strength=0.8)


@pytest.mark.parametrize("solver_type", ["bh1", "bh2"])
@pytest.mark.parametrize("solver_order", [1, 2, 3])
@pytest.mark.parametrize("predict_x0", [True, False])
@pytest.mark.parametrize("lower_order_final", [True, False])
def test_unipc(solver_type: str, solver_order: int, predict_x0: bool, lower_order_final: bool) -> None:
    solver: Options = {
        "solver_type": solver_type,
        "solver_order": solver_order,
        "predict_x0": predict_x0,
        "lower_order_final": lower_order_final,
        "final_sigmas_type": "sigma_min",
        "disable_corrector": [1, 4],
    }
    check(configuration("UniPCMultistepScheduler", solver), 8)
    check(configuration("UniPCMultistepScheduler", solver), 10, strength=0.6)


@pytest.mark.parametrize("solver_order", [1, 2, 3])
@pytest.mark.parametrize("lower_order_final", [True, False])
@pytest.mark.parametrize("steps", [6, 16])
def test_deis(solver_order: int, lower_order_final: bool, steps: int) -> None:
    solver: Options = {"solver_order": solver_order, "lower_order_final": lower_order_final}
    check(configuration("DEISMultistepScheduler", solver), steps)
    check(configuration("DEISMultistepScheduler", solver), steps, strength=0.6)


@pytest.mark.parametrize("class_name", ["DPMSolverMultistepScheduler", "UniPCMultistepScheduler"])
@pytest.mark.parametrize("sigma_schedule", SIGMA_SCHEDULES, ids=label)
@pytest.mark.parametrize("steps", [6, 16])
def test_a_sigma_schedule_whose_last_step_is_empty(
    class_name: str, sigma_schedule: Options, steps: int
) -> None:
    check(configuration(class_name, sigma_schedule, {"final_sigmas_type": "sigma_min"}), steps)


@pytest.mark.parametrize("sigma_schedule", SIGMA_SCHEDULES, ids=label)
def test_euler_ends_with_the_smallest_sigma(sigma_schedule: Options) -> None:
    """The latent that the VAE gets is then in diffusers' own scale."""
    ending: Options = {"final_sigmas_type": "sigma_min"}
    check(configuration("EulerDiscreteScheduler", ending, sigma_schedule), 6)


@pytest.mark.parametrize("class_name", [name for name, family in FAMILIES.items() if len(family[2]) > 1])
@pytest.mark.parametrize("sigma_schedule", SIGMA_SCHEDULES[1:], ids=label)
def test_ends_of_a_sigma_schedule(class_name: str, sigma_schedule: Options) -> None:
    ends: Options = {"sigma_min": 0.1, "sigma_max": 9.0}
    check(configuration(class_name, ends, sigma_schedule), 6)


@pytest.mark.parametrize("class_name", ["LCMScheduler", "TCDScheduler"])
def test_distillation(class_name: str) -> None:
    distilled: Options = {"original_inference_steps": 20, "timestep_scaling": 3.0, "num_train_timesteps": 800}
    check(configuration(class_name, distilled), 4, eta=0.5 if class_name == "TCDScheduler" else 0.0)


@pytest.mark.parametrize("class_name", FAMILIES)
@pytest.mark.parametrize("strength", [1.0, 0.6])
def test_latents_of_the_caller(class_name: str, strength: float) -> None:
    latents = np.random.default_rng(3).normal(size=SHAPE)
    config = configuration(class_name, FAMILIES[class_name][1][0])
    scheduler = diffusers_scheduler(config)
    expected = run_diffusers(scheduler, 6, strength=strength, latents=latents)
    table = compile_table(config, None, 6, strength=strength)
    is_float32 = class_name == "DPMSolverMultistepScheduler"
    received = run_table(table, latents=latents, noise_dtype=torch.float32 if is_float32 else torch.float64)
    assert relative_error(received.latent, expected.latent) < TOLERANCE


@pytest.mark.parametrize("steps", [61, 103])
def test_trailing_without_a_timestep_below_zero(steps: int) -> None:
    """For these numbers diffusers appends the timestep -1, and reads the noisiest level of training there."""
    config = configuration("DDIMScheduler", SPACINGS[2])
    scheduler = diffusers_scheduler(config)
    scheduler.set_timesteps(steps)
    assert scheduler.timesteps[-1] == -1
    assert compile_table(config, None, steps).timesteps.tolist() == scheduler.timesteps[:-1].tolist()


def test_kdpm2_ancestral_from_nearly_pure_noise() -> None:
    """diffusers' second timestep is not a number: it takes the root of a float32 difference below zero."""
    config = configuration("KDPM2AncestralDiscreteScheduler", {"beta_schedule": "squaredcos_cap_v2"})
    scheduler = diffusers_scheduler(config)
    scheduler.set_timesteps(10)
    assert np.isnan(scheduler.timesteps[1])
    assert compile_table(config, None, 10).timesteps[:4].tolist() == [999.0, 888.0, 888.0, 777.0]


def test_unipc_bh1_reaches_the_clean_image() -> None:
    """diffusers' result is not a number here: it multiplies an infinite B(h) by zero."""
    config = configuration("UniPCMultistepScheduler", {"solver_type": "bh1"})
    assert not np.isfinite(run_diffusers(diffusers_scheduler(config), 6).latent).all()
    run = run_table(compile_table(config, None, 6))
    np.testing.assert_allclose(run.latent, run.estimates[-1], rtol=1e-12)
