"""What an engine on a device does around its network, on a device whose stream runs late."""

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from inpaintrt.backends.device_engine import DeviceEngine
from inpaintrt.backends.engine import Array, KeepsState
from inpaintrt.denoiser import FusedStep, Program, Slots, Step
from inpaintrt.errors import EngineInputError, EngineRunError
from inpaintrt.guidance import Guidance
from inpaintrt.noise import NoiseSource, StepNoise
from inpaintrt.samplers import compile_table
from inpaintrt_export.step_graph import compose_step
from runtime.backends.host_device import HostDevice, LateNetwork, host_engine
from runtime.networks import WIDTH, convolution, fused_engine, small_step_inputs, step_build

SHAPE = (4, 5, 7)
CONFIG = {
    "_class_name": "DDIMScheduler",
    "beta_schedule": "scaled_linear",
    "steps_offset": 1,
    "clip_sample": False,
    "set_alpha_to_one": False,
}

Request = tuple[Program, NDArray[np.float32], dict[str, NDArray[np.float32]]]


@pytest.fixture
def engine(tmp_path: Path) -> DeviceEngine:
    inputs = small_step_inputs()
    onnx.save(compose_step(convolution(), inputs), tmp_path / "step.onnx")
    return host_engine(tmp_path, step_build(inputs))


@pytest.fixture
def reference(tmp_path: Path) -> Step:
    return FusedStep(fused_engine(tmp_path))


def _device(engine: DeviceEngine) -> HostDevice:
    assert isinstance(engine.device, HostDevice)
    return engine.device


def _request(seed: int, sampler: str = "euler_a", steps: int = 6, shape: Any = SHAPE) -> Request:
    random = np.random.default_rng(seed)
    table = compile_table(CONFIG, sampler, steps)
    weights = Guidance(3.0).weights(table.rows, has_negative=False)
    contexts = random.standard_normal((weights.shape[1], 7, WIDTH)).astype(np.float32)
    noise = StepNoise(NoiseSource(seed), 1, shape)
    thresholds = np.full(table.rows, 0.5, np.float32)
    program = Program(table, weights, {"context": contexts}, partial(noise.draw, 0), thresholds)
    latents = random.standard_normal(shape).astype(np.float32)
    return program, latents, _residents(random, shape)


def _residents(random: np.random.Generator, shape: tuple[int, int, int]) -> dict[str, NDArray[np.float32]]:
    tensors = {"condition": (5, *shape[1:]), "image_latents": shape, "first_noise": shape}
    arrays = {name: random.standard_normal(size).astype(np.float32) for name, size in tensors.items()}
    return {**arrays, "mask": (random.random((1, *shape[1:])) > 0.4).astype(np.float32)}


def _alone(step: Step, request: Request) -> NDArray[np.float32]:
    slots = Slots(step, capacity=1, latent_shape=request[1].shape)
    slot = slots.join(*request)
    while slots.active:
        slots.step()
    return slots.leave(slot)


def _resolve(shape: tuple[int | str, ...]) -> tuple[int, ...]:
    sizes = {"slots": 2, "rows": 4, "tokens": 7, "height": 5, "width": 7}
    return tuple(axis if isinstance(axis, int) else sizes[axis] for axis in shape)


def _assert_close(found: NDArray[np.float32], expected: NDArray[np.float32]) -> None:
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("sampler", ["ddim", "euler_a", "heun", "dpmpp_2m_karras"])
def test_state_on_the_device_gives_what_state_in_numpy_gives(
    engine: DeviceEngine, reference: Step, sampler: str
) -> None:
    assert isinstance(engine, KeepsState)
    _assert_close(_alone(FusedStep(engine), _request(1, sampler)), _alone(reference, _request(1, sampler)))


def test_requests_come_and_go(engine: DeviceEngine, reference: Step) -> None:
    kinds = [("ddim", 7), ("euler_a", 3), ("heun", 4), ("euler_a", 5)]
    expected = [_alone(reference, _request(seed, *kind)) for seed, kind in enumerate(kinds)]
    slots = Slots(FusedStep(engine), capacity=2, latent_shape=SHAPE)
    waiting = [(seed, _request(seed, *kind)) for seed, kind in enumerate(kinds)]
    places: dict[int, int] = {}
    results: dict[int, NDArray[np.float32]] = {}
    while len(results) < len(kinds):
        while waiting and len(places) < 2:
            seed, request = waiting.pop(0)
            places[slots.join(*request)] = seed
        for slot in slots.step():
            results[places.pop(slot)] = slots.leave(slot)
    for seed, latents in enumerate(expected):
        _assert_close(results[seed], latents)


def test_two_states_of_one_engine_take_turns(engine: DeviceEngine, reference: Step) -> None:
    requests = [_request(0), _request(1, "heun", shape=(4, 6, 8))]
    pair = [Slots(FusedStep(engine), capacity=1, latent_shape=latents.shape) for _, latents, _ in requests]
    for slots, request in zip(pair, requests, strict=True):
        slots.join(*request)
    while any(slots.active for slots in pair):
        for slots in pair:
            slots.step()
    again = [_request(0), _request(1, "heun", shape=(4, 6, 8))]
    for slots, request in zip(pair, again, strict=True):
        _assert_close(slots.leave(0), _alone(reference, request))


def test_a_step_is_not_lost_when_a_larger_state_makes_the_buffers_grow(
    engine: DeviceEngine, reference: Step
) -> None:
    small, large = (Slots(FusedStep(engine), capacity=1, latent_shape=shape) for shape in (SHAPE, (4, 9, 9)))
    small.join(*_request(0))
    large.join(*_request(1, shape=(4, 9, 9)))
    small.step()
    large.step()
    while small.active:
        small.step()
    _assert_close(small.leave(0), _alone(reference, _request(0)))


def test_a_nonfinite_request_is_noted_and_changes_no_other(engine: DeviceEngine, reference: Step) -> None:
    slots = Slots(FusedStep(engine), capacity=3, latent_shape=SHAPE)
    slots.join(*_request(0))
    slots.step()
    program, latents, residents = _request(5)
    contexts = np.full_like(program.per_row["context"], np.inf)
    contexts[:, 0] = -np.inf
    slots.join(replace(program, per_row={"context": contexts}), latents, residents)
    slots.join(*_request(1))
    noted = []
    while slots.active:
        slots.step()
        noted.append(slots.nonfinite())
    assert [slots.finite(slot) for slot in range(3)] == [True, False, True]
    assert noted[0] == (), "a slot with steps left is not read, since that waits for the device"
    assert noted[-1] == (1,)
    for slot, seed in ((0, 0), (2, 1)):
        _assert_close(slots.leave(slot), _alone(reference, _request(seed)))


def test_a_run_from_the_host_in_between_changes_no_state(engine: DeviceEngine, reference: Step) -> None:
    slots = Slots(FusedStep(engine), capacity=1, latent_shape=SHAPE)
    slots.join(*_request(4))
    random = np.random.default_rng(0)
    sizes: Mapping[object, Any] = {"slots": 3, "rows": 5, "tokens": 7, "height": 9, "width": 9}
    inputs: dict[str, Array] = {
        name: random.standard_normal([sizes.get(axis, axis) for axis in spec.shape]).astype(np.float32)
        for name, spec in engine.inputs.items()
    }
    inputs["row_slot"] = np.array([0, 2, 2, 1, 0], np.int64)
    expected = reference._engine.run(inputs)["next_state"]  # type: ignore[attr-defined]
    while slots.active:
        slots.step()
        _assert_close(engine.run(inputs)["next_state"], expected)
    _assert_close(slots.leave(0), _alone(reference, _request(4)))


def test_the_denoised_estimate_is_read_from_the_device(engine: DeviceEngine, reference: Step) -> None:
    one, other = (Slots(step, capacity=1, latent_shape=SHAPE) for step in (FusedStep(engine), reference))
    for slots in (one, other):
        slots.join(*_request(2, "ddim"))
    while one.active:
        one.step()
        other.step()
        _assert_close(one.denoised(0), other.denoised(0))


def test_a_step_is_one_launch_one_wait_no_allocation_and_little_traffic(engine: DeviceEngine) -> None:
    slots = Slots(FusedStep(engine), capacity=1, latent_shape=(4, 16, 16))
    slots.join(*_request(0, "ddim", 10, (4, 16, 16)))
    for _ in range(3):  # the first run warms up, the second is recorded
        slots.step()
    device = _device(engine)
    before = device.allocations, device.synchronisations, device.recordings, device.launches
    device.largest_copies.clear()
    for _ in range(5):
        slots.step()
    after = device.allocations, device.synchronisations, device.recordings, device.launches
    assert [new - old for new, old in zip(after, before, strict=True)] == [0, 5, 0, 5]
    state_bytes = 6 * 4 * 16 * 16 * 4
    traffic = sorted(device.largest_copies)
    assert traffic[-5:] == [state_bytes] * 5  # next_state to state, on the device
    assert traffic[-6] < 1024  # the matrices; neither contexts nor latents nor zero noise


def test_each_row_bucket_is_recorded_once(engine: DeviceEngine) -> None:
    network = engine._network
    assert isinstance(network, LateNetwork)
    network.profiles = [{name: _resolve(spec.shape) for name, spec in engine.inputs.items()}]
    for seed in range(3):
        slots = Slots(FusedStep(engine), capacity=2, latent_shape=SHAPE)
        slots.join(*_request(seed, steps=6))
        slots.step()
        slots.step()
        slots.join(*_request(seed + 10, steps=6))
        while slots.active:
            slots.step()
    assert _device(engine).recordings == 2  # two rows, and four


def test_growing_buffers_are_bound_anew(engine: DeviceEngine, reference: Step) -> None:
    for shape in ((4, 5, 7), (4, 9, 9), (4, 5, 7), (4, 11, 9)):
        requests = [_request(3, shape=shape) for _ in range(2)]
        _assert_close(_alone(FusedStep(engine), requests[0]), _alone(reference, requests[1]))


def test_a_network_that_was_loaded_anew_is_bound_anew(engine: DeviceEngine, reference: Step) -> None:
    slots = Slots(FusedStep(engine), capacity=1, latent_shape=SHAPE)
    slots.join(*_request(5))
    network = engine._network
    assert isinstance(network, LateNetwork)
    while slots.active:
        network.epoch += 1
        slots.step()
    assert _device(engine).recordings == 0
    _assert_close(slots.leave(0), _alone(reference, _request(5)))


def test_more_rows_than_the_largest_bucket_are_refused(engine: DeviceEngine) -> None:
    slots = Slots(FusedStep(engine), capacity=5, latent_shape=SHAPE)
    for seed in range(5):
        slots.join(*_request(seed))
    with pytest.raises(EngineInputError, match=r"(?s)10 rows.*at most 8"):
        slots.step()


def test_inputs_are_checked_and_a_closed_engine_says_so(engine: DeviceEngine) -> None:
    with pytest.raises(EngineInputError, match="other inputs"):
        engine.run({})
    engine.close()
    engine.close()
    with pytest.raises(EngineRunError, match="closed"):
        engine.open_state(1, *SHAPE[1:])


def test_an_engine_is_released_once(engine: DeviceEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    network = engine._network
    closed: list[str] = []
    monkeypatch.setattr(network, "close", lambda: closed.append("network"))
    engine.close()
    engine.close()
    assert closed == ["network"]


def test_engines_are_released_before_python_exits(tmp_path: Path) -> None:
    """A library that outlives the context of its device may crash."""
    inputs = small_step_inputs()
    onnx.save(compose_step(convolution(), inputs), tmp_path / "step.onnx")
    program = """
import sys
from pathlib import Path
from runtime.backends.host_device import HostDevice, LateNetwork, host_engine
from runtime.networks import small_step_inputs, step_build
engine = host_engine(Path(sys.argv[1]), step_build(small_step_inputs()))
LateNetwork.close = lambda self: print("closed", len(engine._runs), len(engine._memory))
HostDevice.synchronise = lambda self: print("waited")
print("end of the program")
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == ["end of the program", "waited", "closed 0 0"]
