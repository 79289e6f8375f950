"""Slots and rows: requests share a step and do not notice each other."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from inpaintrt.denoiser import Entry, FusedStep, PlainStep, Program, Slots, Step
from inpaintrt.errors import EngineInputError, ParameterError
from inpaintrt.families import SD
from inpaintrt.guidance import Guidance
from inpaintrt.noise import NoiseSource, StepNoise
from inpaintrt.pipeline import InpaintPipeline
from inpaintrt.request import Options, make_request
from inpaintrt.samplers import compile_table
from runtime.image_tools import disc_mask, gradient
from runtime.networks import WIDTH, fused_engine, plain_engine, small_step_inputs

SHAPE = (4, 5, 7)
CONFIG = {
    "_class_name": "DDIMScheduler",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "steps_offset": 1,
    "clip_sample": False,
    "set_alpha_to_one": False,
}

Request = tuple[Program, NDArray[np.float32], dict[str, NDArray[np.float32]]]


@pytest.fixture(params=["fused", "plain"])
def step(request: pytest.FixtureRequest, tmp_path: Path) -> Step:
    if request.param == "fused":
        return FusedStep(fused_engine(tmp_path))
    return PlainStep(plain_engine(tmp_path), small_step_inputs())


def _request(seed: int, sampler: str = "ddim", steps: int = 5, guidance: Guidance | None = None) -> Request:
    random = np.random.default_rng(seed)
    table = compile_table(CONFIG, sampler, steps, eta=0.5 if sampler == "ddim" else 0.0)
    weights = (guidance or Guidance(7.5)).weights(table.rows, has_negative=False)
    contexts = random.standard_normal((weights.shape[1], 7, WIDTH)).astype(np.float32)
    noise = StepNoise(NoiseSource(seed), 1, SHAPE)
    thresholds = np.full(table.rows, 0.5, np.float32)
    program = Program(table, weights, {"context": contexts}, partial(noise.draw, 0), thresholds)
    latents = random.standard_normal(SHAPE).astype(np.float32)
    return program, latents, _residents(random, SHAPE)


def _residents(random: np.random.Generator, shape: tuple[int, int, int]) -> dict[str, NDArray[np.float32]]:
    tensors = {"condition": (5, *shape[1:]), "image_latents": shape, "first_noise": shape}
    arrays = {name: random.standard_normal(size).astype(np.float32) for name, size in tensors.items()}
    return {**arrays, "mask": (random.random((1, *shape[1:])) > 0.4).astype(np.float32)}


def _slots(step: Step, capacity: int, **options: Any) -> Slots:
    return Slots(step, capacity=capacity, latent_shape=SHAPE, **options)


def _alone(step: Step, request: Request, capacity: int = 1, **options: Any) -> NDArray[np.float32]:
    slots = _slots(step, capacity, **options)
    slot = slots.join(*request)
    while not slots.step():
        pass
    return slots.leave(slot)


def _run_to_the_end(slots: Slots) -> None:
    while slots.active:
        slots.step()


def test_both_forms_compute_the_same(tmp_path: Path) -> None:
    fused, plain = FusedStep(fused_engine(tmp_path)), PlainStep(plain_engine(tmp_path), small_step_inputs())
    for sampler in ("ddim", "euler_a", "dpmpp_2m_karras", "heun", "unipc"):
        one, other = (_alone(step, _request(3, sampler)) for step in (fused, plain))
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_unrelated_requests_share_steps_and_come_and_go(step: Step) -> None:
    kinds: list[dict[str, Any]] = [
        {"sampler": "ddim", "steps": 7},
        {"sampler": "euler_a", "steps": 3, "guidance": Guidance(1.0)},
        {"sampler": "dpmpp_2m_karras", "steps": 5, "guidance": Guidance(3.0, interval=(0.2, 0.8))},
        {"sampler": "heun", "steps": 4},
    ]
    expected = [_alone(step, _request(seed, **kind)) for seed, kind in enumerate(kinds)]
    slots = _slots(step, 2)
    waiting = [(seed, _request(seed, **kind)) for seed, kind in enumerate(kinds)]
    places: dict[int, int] = {}
    results: dict[int, NDArray[np.float32]] = {}
    while len(results) < len(kinds):
        while waiting and len(places) < 2:
            seed, request = waiting.pop(0)
            places[slots.join(*request)] = seed
        for slot in slots.step():
            results[places.pop(slot)] = slots.leave(slot)
    for seed, latents in enumerate(expected):
        np.testing.assert_allclose(results[seed], latents, rtol=1e-4, atol=1e-5)


def test_in_one_row_bucket_company_changes_no_bit(step: Step) -> None:
    options: dict[str, Any] = {"capacity": 3, "row_buckets": (8,)}
    alone = [_alone(step, _request(seed), **options) for seed in range(3)]
    slots = _slots(step, **options)
    for seed in range(3):
        slots.join(*_request(seed))
    while not slots.step():
        pass
    for seed in range(3):
        np.testing.assert_array_equal(slots.leave(seed), alone[seed])


def test_a_request_may_leave_before_it_is_done(step: Step) -> None:
    slots = _slots(step, 2)
    leaving, staying = slots.join(*_request(0)), slots.join(*_request(1))
    slots.step()
    slots.leave(leaving)
    assert list(slots.active) == [staying]
    while not slots.step():
        pass
    np.testing.assert_allclose(slots.leave(staying), _alone(step, _request(1)), rtol=1e-4, atol=1e-5)
    assert list(slots.active) == []
    assert list(slots.step()) == []


def test_the_last_state_is_the_denoised_estimate(step: Step) -> None:
    slots = _slots(step, 1)
    slot = slots.join(*_request(2, "ddim", steps=4))
    estimates = []
    while slots.active:
        slots.step()
        estimates.append(slots.denoised(slot))
    final = slots.leave(slot)
    distances = [float(np.abs(estimate - final).mean()) for estimate in estimates]
    assert distances[-1] < distances[0]


def test_prompts_of_different_lengths_share_a_step() -> None:
    """The demo's UNet attends to the prompt, unlike the small network of this file."""
    with InpaintPipeline.from_bundle("demo") as pipe:
        entries = [_enter(pipe, "a red balloon and " * repeats) for repeats in (1, 20, 40)]
        assert [entry.program.per_row["context"].shape[1] // 77 for entry in entries] == [1, 2, 3]
        together = _latents(pipe.stages.step, entries)
        for found, entry in zip(together, entries, strict=True):
            np.testing.assert_allclose(found, _latents(pipe.stages.step, [entry])[0], rtol=1e-3, atol=1e-3)


def _latents(step: Step, entries: Sequence[Entry]) -> list[NDArray[np.float32]]:
    channels, height, width = entries[0].latents.shape
    slots = Slots(step, capacity=len(entries), latent_shape=(channels, height, width))
    places = [slots.join(*entry) for entry in entries]
    _run_to_the_end(slots)
    return [slots.leave(slot) for slot in places]


def _enter(pipe: InpaintPipeline, prompt: str) -> Entry:
    options: Options = {"num_inference_steps": 2, "seed": 0, "long_prompts": "windows", "scheduler": "ddim"}
    request = make_request(prompt, gradient(128, 128), disc_mask(128, 128), options, SD)
    stages = pipe.stages
    prepared = stages.prepare(request)
    encoded = stages.encode_images(request, prepared)
    (entry,) = stages.start(
        request, prepared, stages.compile(request), stages.encode_prompts(request), encoded
    )
    return entry


def _poisoned(request: Request) -> Request:
    """The mean over this context is NaN, and so is what the network makes of it."""
    program, latents, residents = request
    contexts = program.per_row["context"].copy()
    contexts[:, 0, :2] = [np.inf, -np.inf]
    return replace(program, per_row={"context": contexts}), latents, residents


@pytest.mark.parametrize("sampler", ["euler_a", "dpmpp_2m_karras"])
def test_a_nonfinite_request_is_noted_and_changes_no_other(step: Step, sampler: str) -> None:
    kinds = [(0, 5), (1, 3), (2, 6)]
    slots = _slots(step, 4)
    places = {slots.join(*_request(seed, sampler, steps)): (seed, steps) for seed, steps in kinds[:2]}
    slots.step()
    bad = slots.join(*_poisoned(_request(7, sampler)))
    places[slots.join(*_request(2, sampler, 6))] = kinds[2]
    results = {}
    while places:
        finished = slots.step()
        assert slots.nonfinite() == (bad,)
        for slot in set(finished) & set(places):
            assert slots.finite(slot)
            results[places.pop(slot)] = slots.leave(slot)
    for seed, steps in kinds:
        expected = _alone(step, _request(seed, sampler, steps))
        np.testing.assert_allclose(results[seed, steps], expected, rtol=1e-4, atol=1e-5)


def test_full_slots_refuse_another_request(step: Step) -> None:
    slots = _slots(step, 1)
    slots.join(*_request(0))
    with pytest.raises(ParameterError, match="all slots are taken"):
        slots.join(*_request(1))


def test_more_rows_than_the_largest_bucket_are_refused(step: Step) -> None:
    slots = _slots(step, 2, row_buckets=(1, 2))
    slots.join(*_request(0))
    slots.join(*_request(1))
    with pytest.raises(EngineInputError, match=r"(?s)4 rows.*at most 2"):
        slots.step()


@pytest.mark.parametrize("scalar", [False, True])
def test_a_unet_of_whole_or_scalar_timesteps_serves_requests_at_different_steps(
    tmp_path: Path, scalar: bool
) -> None:
    inputs = small_step_inputs()
    expected = PlainStep(plain_engine(tmp_path), inputs)
    step = PlainStep(plain_engine(tmp_path, whole_timesteps=True, scalar_timestep=scalar), inputs)
    slots = _slots(step, 2)
    slots.join(*_request(0, steps=5))
    slots.step()
    slots.join(*_request(1, steps=4))
    _run_to_the_end(slots)
    np.testing.assert_allclose(slots.leave(0), _alone(expected, _request(0, steps=5)), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(slots.leave(1), _alone(expected, _request(1, steps=4)), rtol=1e-4, atol=1e-5)


def test_a_unet_of_whole_timesteps_refuses_fractions(tmp_path: Path) -> None:
    step = PlainStep(plain_engine(tmp_path, whole_timesteps=True), small_step_inputs())
    step.check_timesteps(np.array([999, 0], np.float32))
    with pytest.raises(ParameterError, match=r"(?s)integer timesteps.*0\.5"):
        step.check_timesteps(np.array([999, 0.5], np.float32))
    with InpaintPipeline.from_bundle("demo") as pipe:
        pipe.stages.step = step
        with pytest.raises(ParameterError, match="integer timesteps"):
            pipe("a red balloon", scheduler="euler", timesteps=[999, 20.5])


def test_other_networks_take_fractions(tmp_path: Path, step: Step) -> None:
    for each in (step, PlainStep(plain_engine(tmp_path), small_step_inputs())):
        each.check_timesteps(np.array([999, 0.5], np.float32))
