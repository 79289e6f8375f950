"""Inpainting with a UNet that does not see the mask: the noised original after every row is diffusers'."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
import torch

from inpaintrt.samplers import STATE_TENSORS, compile_table, sampler_names
from runtime.samplers.configurations import (
    EPSILON,
    FAMILIES,
    SPACINGS,
    VELOCITY,
    Options,
    configuration,
    label,
    options_of_every_class,
)
from runtime.samplers.reference import (
    BETAS,
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
MASK = np.random.default_rng(11).integers(0, 2, SHAPE).astype(np.float64)
LATENTS = np.random.default_rng(12).normal(size=SHAPE)
CONFIG: Mapping[str, object] = {
    "_class_name": "PNDMScheduler",
    **BETAS,
    "steps_offset": 1,
    "clip_sample": False,
}
SHORT_NAMES = [name for name in sampler_names() if name.islower()]


def check(
    config: Mapping[str, object],
    steps: int,
    strength: float = 1.0,
    eta: float = 0.0,
    latents: np.ndarray[tuple[int, ...], np.dtype[np.float64]] | None = None,
) -> None:
    """Compare the final latents and the denoised estimates of one configuration."""
    expected = run_diffusers(
        diffusers_scheduler(config), steps, strength=strength, eta=eta, latents=latents, mask=MASK
    )
    # DPMSolverMultistepScheduler draws float32 whatever the latent is, the others draw the latent's dtype.
    is_float32 = config["_class_name"] == "DPMSolverMultistepScheduler"
    received = run_table(
        compile_table(config, None, steps, strength=strength, eta=eta),
        latents=latents,
        mask=MASK,
        noise_dtype=torch.float32 if is_float32 else torch.float64,
    )
    assert relative_error(received.latent, expected.latent) < TOLERANCE
    for ours, theirs in zip(received.estimates, expected.estimates, strict=bool(expected.estimates)):
        assert relative_error(ours, theirs) < TOLERANCE


@pytest.mark.parametrize("config", list(options_of_every_class()), ids=label)
def test_every_spacing_sigma_schedule_and_prediction_type(config: Options) -> None:
    check(config, 7)


@pytest.mark.parametrize("class_name", FAMILIES)
@pytest.mark.parametrize("steps", [1, 2, 5, 20])
@pytest.mark.parametrize("prediction", [EPSILON, VELOCITY], ids=label)
def test_every_number_of_steps_and_strength(class_name: str, steps: int, prediction: Options) -> None:
    config = configuration(class_name, FAMILIES[class_name][1][0], prediction)
    check(config, steps)
    if steps > 1:
        check(config, steps, strength=0.6)


@pytest.mark.parametrize("class_name", FAMILIES)
def test_one_step_is_left(class_name: str) -> None:
    check(configuration(class_name, FAMILIES[class_name][1][0]), 50, strength=0.02)


@pytest.mark.parametrize("class_name", FAMILIES)
@pytest.mark.parametrize("strength", [1.0, 0.6])
def test_latents_of_the_caller_are_the_noise_of_the_original(class_name: str, strength: float) -> None:
    check(configuration(class_name), 6, strength=strength, latents=LATENTS)


@pytest.mark.parametrize("eta", [0.3, 1.0])
@pytest.mark.parametrize("class_name", ["DDIMScheduler", "TCDScheduler"])
@pytest.mark.parametrize("strength", [1.0, 0.6])
def test_eta(class_name: str, eta: float, strength: float) -> None:
    check(configuration(class_name), 8, strength=strength, eta=eta)


@pytest.mark.parametrize("class_name", ["DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler"])
@pytest.mark.parametrize("algorithm_type", ["dpmsolver++", "sde-dpmsolver++"])
@pytest.mark.parametrize("strength", [1.0, 0.7])
def test_third_order_and_fresh_noise(class_name: str, algorithm_type: str, strength: float) -> None:
    solver: Options = {"algorithm_type": algorithm_type, "solver_order": 3}
    check(configuration(class_name, solver), 16, strength=strength)


@pytest.mark.parametrize("class_name", ["EulerDiscreteScheduler", "UniPCMultistepScheduler", "DDIMScheduler"])
def test_zero_terminal_snr(class_name: str) -> None:
    zero: Options = {"rescale_betas_zero_snr": True}
    for strength in (1.0, 0.6):
        check(configuration(class_name, SPACINGS[2], VELOCITY, zero), 7, strength=strength)


def test_euler_ends_with_the_smallest_sigma() -> None:
    """The last anchor is clean all the same."""
    check(configuration("EulerDiscreteScheduler", {"final_sigmas_type": "sigma_min"}), 6)


@pytest.mark.parametrize("name", SHORT_NAMES)
def test_the_gated_matrices_hold_the_update_and_the_anchor(name: str) -> None:
    table = compile_table(CONFIG, name, 6, strength=0.7)
    assert table.anchor.shape == (table.rows, 2)
    assert table.anchor[-1].tolist() == [1.0, 0.0]
    gated = table.gated_update
    assert gated.shape == (table.rows, STATE_TENSORS + 1, STATE_TENSORS + 4)
    assert gated.dtype == np.float64
    assert not gated.flags.writeable
    np.testing.assert_array_equal(gated[:, :STATE_TENSORS, : STATE_TENSORS + 2], table.update)
    np.testing.assert_array_equal(gated[:, STATE_TENSORS, STATE_TENSORS + 2 :], table.anchor)
    assert not gated[:, :STATE_TENSORS, STATE_TENSORS + 2 :].any()
    assert not gated[:, STATE_TENSORS, : STATE_TENSORS + 2].any()


@pytest.mark.parametrize(
    ("first", "second"), [("ddim", "euler"), ("heun", "lcm"), ("plms", "kdpm2"), ("kdpm2", "ddim")]
)
def test_a_hybrid_hands_over_at_the_level_of_the_next_sampler(first: str, second: str) -> None:
    hybrid = compile_table(CONFIG, f"{first}:4+{second}:6", 10)
    following = compile_table(CONFIG, second, 10, strength=0.6)
    before = hybrid.rows - following.rows
    start = following.init
    np.testing.assert_allclose(hybrid.anchor[before - 1], [start.signal, start.noise], rtol=1e-12)
    np.testing.assert_allclose(hybrid.anchor[before:], following.anchor, rtol=1e-12)
    assert (np.diff(hybrid.anchor[:, 1] / hybrid.anchor[:, 0]) < 1e-9).all()


@pytest.mark.parametrize("steps", [1, 2, 5, 15, 50])
def test_thresholds_are_those_of_differential_diffusion(steps: int) -> None:
    """map > i / N keeps a pixel before step i, in float32 as torch.arange(N) / N is."""
    values = np.arange(256)
    mask, keep_map = (torch.from_numpy(grey).float() / 255.0 for grey in (values, 255 - values))
    kept = keep_map > (torch.arange(steps) / steps).unsqueeze(1)
    thresholds = torch.from_numpy(compile_table(CONFIG, "ddim", steps).thresholds.copy()).unsqueeze(1)
    free = mask >= thresholds
    np.testing.assert_array_equal(free[:-1], ~kept[1:])
    assert free[-1].all()
    assert free[:, -1].all()


@pytest.mark.parametrize(
    ("name", "strength", "steps_of_rows"),
    [
        ("euler", 1.0, [0, 1, 2, 3]),
        ("euler", 0.5, [0, 1]),
        ("heun", 1.0, [0, 0, 1, 1, 2, 2, 3]),
        ("kdpm2", 0.5, [0, 0, 1]),
        ("plms", 1.0, [0, 0, 1, 2, 3]),
        ("plms", 0.5, [0, 0, 1]),
        ("heun:2+ddim:2", 1.0, [0, 0, 1, 1, 2, 3]),
    ],
)
def test_rows_of_one_step_share_its_threshold(name: str, strength: float, steps_of_rows: list[int]) -> None:
    table = compile_table(CONFIG, name, 4, strength=strength)
    count = steps_of_rows[-1] + 1
    assert table.step_of_row.tolist() == steps_of_rows
    assert table.thresholds.tolist() == [pytest.approx((count - 1 - step) / count) for step in steps_of_rows]
    assert table.thresholds.dtype == np.float32
    assert not table.thresholds.flags.writeable
