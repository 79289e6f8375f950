"""What every table keeps: finished estimates, noise levels, hybrids, and that it can be shared."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numpy.typing import NDArray

from inpaintrt.samplers import STATE_TENSORS, Init, Table, compile_table, sampler_names
from inpaintrt.samplers.config import resolve
from inpaintrt.samplers.dpmsolver import multistep_schedule
from inpaintrt.samplers.names import choose
from inpaintrt.samplers.solver import SolverSchedule, StepRange
from inpaintrt.samplers.table import compile_schedule
from runtime.samplers.reference import BETAS, FIRST_NOISE, IMAGE, SHAPE, SIZE, relative_error, unet

CONFIG: Mapping[str, object] = {
    "_class_name": "PNDMScheduler",
    **BETAS,
    "clip_sample": False,
    "steps_offset": 1,
}
SHORT_NAMES = [name for name in sampler_names() if name.islower()]
WITH_NOISE = ("ddpm", "dpmpp_2m_sde", "dpmpp_3m_sde", "dpmpp_sde", "euler_a", "kdpm2_a", "lcm")
DETERMINISTIC = [name for name in SHORT_NAMES if not name.startswith((*WITH_NOISE, "tcd"))]

FloatArray = NDArray[np.float64]
CLEAN = np.random.default_rng(0).normal(size=5)
EPSILON = np.random.default_rng(1).normal(size=5)


def levels(table: Table) -> list[tuple[float, float]]:
    """alpha and sigma of every row, read off the matrices of a UNet that predicts noise."""
    estimates = table.update[:, STATE_TENSORS - 1]
    alphas = 1.0 / estimates[:, 0]
    return list(zip(alphas.tolist(), (-estimates[:, STATE_TENSORS] * alphas).tolist(), strict=True))


def run_perfect_unet(table: Table) -> tuple[list[FloatArray], FloatArray]:
    """Latents before every row, and the last one, for a UNet that knows the noise it is to find."""
    alpha, sigma = levels(table)[0]
    state = np.zeros((STATE_TENSORS, CLEAN.size))
    state[0] = alpha * CLEAN + sigma * EPSILON
    seen = []
    for update in table.update:
        seen.append(state[0])
        state = update @ np.concatenate([state, EPSILON[None], np.zeros((1, CLEAN.size))])
    return seen, state[0]


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_every_latent_is_at_its_level(name: str) -> None:
    """Where image and noise are known, every deterministic solver of any order is exact."""
    table = compile_table(CONFIG, name, 12)
    seen, last = run_perfect_unet(table)
    for x, (alpha, sigma) in zip(seen, levels(table), strict=True):
        np.testing.assert_allclose(x, alpha * CLEAN + sigma * EPSILON, rtol=0.0, atol=1e-6)
    leftover = (last - CLEAN) / EPSILON
    np.testing.assert_allclose(leftover, leftover[0], rtol=0.0, atol=2e-3)
    assert abs(leftover[0]) < 0.03


HYBRIDS = [
    ("ddim:6+dpmpp_2m_karras:4", 10),
    ("heun:3+ddim:7", 13),
    ("ddim:4+heun_karras:6", 15),
    ("plms:5+euler:5", 11),
    ("ddim:5+plms:5", 11),
    ("dpmpp_2m_karras:5+unipc:5", 10),
    ("kdpm2:4+lms_karras:6", 14),
    ("lms:5+kdpm2:5", 14),
    ("dpmpp_2s:5+deis:5", 10),
    ("unipc:3+dpmpp_3s:4+ddim:3", 10),
]


@pytest.mark.parametrize(("name", "rows"), HYBRIDS)
def test_a_hybrid_hands_over_at_one_level(name: str, rows: int) -> None:
    table = compile_table(CONFIG, name, 10)
    assert table.rows == rows
    assert table.name == name
    seen, last = run_perfect_unet(table)
    for x, (alpha, sigma) in zip(seen, levels(table), strict=True):
        np.testing.assert_allclose(x, alpha * CLEAN + sigma * EPSILON, rtol=0.0, atol=1e-6)
    np.testing.assert_allclose(last, CLEAN, atol=0.1)


@pytest.mark.parametrize(
    "name", ["ddim", "ddpm", "euler", "euler_a", "heun", "kdpm2_a", "dpmpp_2m", "tcd", "lcm"]
)
def test_a_hybrid_of_one_sampler_is_two_halves_of_it(name: str) -> None:
    whole = compile_table(CONFIG, name, 10)
    second = compile_table(CONFIG, name, 10, strength=0.6)
    hybrid = compile_table(CONFIG, f"{name}:4+{name}:6", 10)
    first_rows = whole.rows - second.rows
    np.testing.assert_allclose(hybrid.timesteps, whole.timesteps)
    np.testing.assert_allclose(hybrid.update[:first_rows, 0], whole.update[:first_rows, 0], atol=1e-9)
    np.testing.assert_array_equal(hybrid.update[first_rows:], second.update)
    assert hybrid.init == whole.init


def test_a_hybrid_with_strength_runs_what_is_left_of_each_member() -> None:
    table = compile_table(CONFIG, "ddim:30+ddpm:20", 50, strength=0.6)
    ddim = compile_table(CONFIG, "ddim", 50, strength=0.6)
    ddpm = compile_table(CONFIG, "ddpm", 50, strength=0.4)
    assert table.rows == 30
    assert table.init == ddim.init
    np.testing.assert_allclose(table.update[:10], ddim.update[:10], atol=1e-12)
    np.testing.assert_array_equal(table.update[10:], ddpm.update)
    assert table.uses_noise.tolist() == [False] * 10 + [True] * 20
    assert_equal_tables(compile_table(CONFIG, "ddim:30+ddpm:20", 50, strength=0.4), ddpm)


def assert_equal_tables(left: Table, right: Table) -> None:
    np.testing.assert_array_equal(left.timesteps, right.timesteps)
    np.testing.assert_array_equal(left.update, right.update)
    np.testing.assert_array_equal(left.uses_noise, right.uses_noise)
    assert left.init == right.init


@pytest.mark.parametrize("name", SHORT_NAMES)
def test_the_last_state_is_the_denoised_estimate(name: str) -> None:
    table = compile_table(CONFIG, name, 6)
    for update, (alpha, sigma) in zip(table.update, levels(table), strict=True):
        expected = np.zeros(STATE_TENSORS + 2)
        expected[0], expected[STATE_TENSORS] = 1.0 / alpha, -sigma / alpha
        np.testing.assert_allclose(update[STATE_TENSORS - 1], expected, rtol=1e-12)
        assert alpha**2 + sigma**2 == pytest.approx(1.0)


@pytest.mark.parametrize("name", SHORT_NAMES)
def test_the_first_row_reads_the_latent_only(name: str) -> None:
    table = compile_table(CONFIG, name, 6)
    assert not table.update[0, :, 1:STATE_TENSORS].any()


@pytest.mark.parametrize("name", SHORT_NAMES)
def test_noise_is_used_where_it_says_so(name: str) -> None:
    table = compile_table(CONFIG, name, 6)
    np.testing.assert_array_equal(table.uses_noise, table.update[:, :, STATE_TENSORS + 1].any(axis=1))
    assert table.uses_noise.any() == name.startswith(WITH_NOISE)


def run_in(dtype: type[np.float32] | type[np.float64], table: Table) -> FloatArray:
    draws = np.random.default_rng(0)
    state = np.zeros((STATE_TENSORS, SIZE), dtype)
    state[0] = (table.init.signal * IMAGE + table.init.noise * FIRST_NOISE).reshape(-1)
    for timestep, update in zip(table.timesteps, table.update, strict=True):
        output = unet(state[0].astype(np.float64).reshape(SHAPE), float(timestep)).reshape(1, SIZE)
        noise = draws.normal(size=(1, SIZE))
        state = update.astype(dtype) @ np.concatenate([state, output.astype(dtype), noise.astype(dtype)])
    latent: FloatArray = state[0].astype(np.float64)
    return latent


@pytest.mark.parametrize("name", SHORT_NAMES)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"timestep_spacing": "trailing", "rescale_betas_zero_snr": True, "prediction_type": "v_prediction"},
    ],
    ids=["leading", "zero terminal snr"],
)
def test_single_precision_is_enough(name: str, options: Mapping[str, object]) -> None:
    table = compile_table({**CONFIG, **options}, name, 30)
    assert relative_error(run_in(np.float32, table), run_in(np.float64, table)) < 1e-4


def test_a_table_cannot_be_written() -> None:
    table = compile_table(CONFIG, "ddim:3+ddpm:2", 5)
    assert table.timesteps.dtype == np.float32
    assert table.update.dtype == np.float64
    assert table.update.shape == (5, STATE_TENSORS, STATE_TENSORS + 2)
    for array in (table.timesteps, table.update, table.uses_noise, table.anchor, table.step_of_row):
        assert not array.flags.writeable
    with pytest.raises(AttributeError):
        table.name = "other"  # type: ignore[misc]


def test_the_first_state() -> None:
    assert compile_table(CONFIG, "ddim", 50).init == Init(0.0, 1.0, 1.0)
    partial = compile_table(CONFIG, "ddim", 50, strength=0.5).init
    assert partial.latents == 1.0
    assert partial.signal**2 + partial.noise**2 == pytest.approx(1.0)
    assert 0.3 < partial.signal < 0.7


def schedule_for_threads() -> tuple[SolverSchedule, str]:
    settings = resolve(CONFIG, choose("dpmpp_3m_karras").class_name, overrides={"solver_order": 3})
    return multistep_schedule(settings, StepRange(30, 0, 30), 0.0), settings.prediction_type


def test_two_threads_share_a_solver() -> None:
    schedule, prediction_type = schedule_for_threads()
    expected = compile_schedule("alone", schedule, prediction_type, Init(0.0, 1.0, 1.0)).update

    def compile_again(_: int) -> FloatArray:
        return compile_schedule("shared", schedule, prediction_type, Init(0.0, 1.0, 1.0)).update

    with ThreadPoolExecutor(2) as pool:
        for received in pool.map(compile_again, range(20)):
            np.testing.assert_array_equal(received, expected)
