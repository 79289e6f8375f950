"""Slots with step caching: full and shallow evaluations, by turns and side by side."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from inpaintrt.backends import RowKey
from inpaintrt.backends.onnxruntime import OnnxRuntimeEngine
from inpaintrt.denoiser import Entry, FusedStep, Program, Slots, Step, shallow_rows
from inpaintrt.denoiser.features import FeatureCache
from inpaintrt.guidance import Guidance
from inpaintrt.noise import NoiseSource, StepNoise
from inpaintrt.samplers import compile_table
from runtime.backends.host_device import host_engines
from runtime.networks import WIDTH, cached_builds

SHAPE = (4, 5, 7)
CONFIG = {"_class_name": "DDIMScheduler", "beta_schedule": "scaled_linear", "clip_sample": False}
KINDS: list[dict[str, Any]] = [
    {"sampler": "ddim", "steps": 7, "interval": 2},
    {"sampler": "euler_a", "steps": 5, "interval": 1},
    {"sampler": "dpmpp_2m_karras", "steps": 8, "interval": 3, "guidance": Guidance(3.0, interval=(0.2, 0.8))},
    {"sampler": "heun", "steps": 4, "interval": 2},
    {"sampler": "ddim", "steps": 6, "interval": 3, "guidance": Guidance(1.0)},
]


@pytest.fixture
def host_step(tmp_path: Path) -> Step:
    full, shallow = cached_builds(tmp_path)
    return FusedStep(
        OnnxRuntimeEngine(tmp_path / full.file, full), OnnxRuntimeEngine(tmp_path / shallow.file, shallow)
    )


@pytest.fixture
def device_step(tmp_path: Path) -> Step:
    full, shallow = host_engines(tmp_path, *cached_builds(tmp_path))
    return FusedStep(full, shallow)


def _entry(seed: int, *, sampler: str, steps: int, interval: int, guidance: Guidance | None = None) -> Entry:
    random = np.random.default_rng(seed)
    table = compile_table(CONFIG, sampler, steps)
    weights = (guidance or Guidance(7.5)).weights(table.rows, has_negative=False)
    program = Program(
        table,
        weights,
        {"context": random.standard_normal((weights.shape[1], 7, WIDTH)).astype(np.float32)},
        partial(StepNoise(NoiseSource(seed), 1, SHAPE).draw, 0),
        np.full(table.rows, 0.5, np.float32),
        shallow=shallow_rows(weights, interval) if interval > 1 else None,
    )
    tensors = {"condition": (5, *SHAPE[1:]), "image_latents": SHAPE, "first_noise": SHAPE}
    residents = {name: random.standard_normal(size).astype(np.float32) for name, size in tensors.items()}
    mask = (random.random((1, *SHAPE[1:])) > 0.4).astype(np.float32)
    return Entry(program, random.standard_normal(SHAPE).astype(np.float32), {**residents, "mask": mask})


def _slots(step: Step, capacity: int) -> Slots:
    return Slots(step, capacity=capacity, latent_shape=SHAPE, row_buckets=(8,))


def _alone(step: Step, entry: Entry, capacity: int = 3) -> NDArray[np.float32]:
    slots = _slots(step, capacity)
    slot = slots.join(*entry)
    while slots.active:
        slots.step()
    return slots.leave(slot)


def _in_company(step: Step) -> list[NDArray[np.float32]]:
    """The latents of all kinds, which come and go."""
    slots = _slots(step, 3)
    waiting = [(index, _entry(index, **kind)) for index, kind in enumerate(KINDS)]
    owners: dict[int, int] = {}
    results: dict[int, NDArray[np.float32]] = {}
    while len(results) < len(KINDS):
        if waiting and len(owners) < 3:
            index, entry = waiting.pop(0)
            owners[slots.join(*entry)] = index
        for slot in slots.step():
            results[owners.pop(slot)] = slots.leave(slot)
    return [results[index] for index in range(len(KINDS))]


def test_in_one_row_bucket_company_changes_no_bit(host_step: Step) -> None:
    alone = [_alone(host_step, _entry(index, **kind)) for index, kind in enumerate(KINDS)]
    for one, other in zip(_in_company(host_step), alone, strict=True):
        np.testing.assert_array_equal(one, other)


def test_state_on_a_device_gives_what_state_in_numpy_gives(host_step: Step, device_step: Step) -> None:
    for one, other in zip(_in_company(device_step), _in_company(host_step), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_two_states_on_a_device_take_turns(host_step: Step, device_step: Step) -> None:
    pair = [(_slots(device_step, 1), _entry(index, **KINDS[index])) for index in (0, 3)]
    for slots, entry in pair:
        slots.join(*entry)
    while any(slots.active for slots, _ in pair):
        for slots, _ in pair:
            slots.step()
    for slots, entry in pair:
        np.testing.assert_allclose(slots.leave(0), _alone(host_step, entry), rtol=1e-4, atol=1e-5)


def test_caching_changes_the_result_and_an_interval_of_1_does_not(host_step: Step) -> None:
    kind: dict[str, Any] = {"sampler": "ddim", "steps": 7}
    plain, cached = (_alone(host_step, _entry(0, **kind, interval=interval)) for interval in (1, 2))
    assert np.abs(plain - cached).max() > 1e-3
    entry = _entry(0, **kind, interval=1)
    never = replace(entry.program, shallow=shallow_rows(entry.program.weights, 1))
    np.testing.assert_array_equal(_alone(host_step, entry._replace(program=never)), plain)


@pytest.mark.parametrize(("guidance", "rows"), [(7.5, 2), (1.0, 1)])
def test_full_and_shallow_evaluations_run_side_by_side(host_step: Step, guidance: float, rows: int) -> None:
    slots = _slots(host_step, 2)
    kind: dict[str, Any] = {"sampler": "ddim", "guidance": Guidance(guidance)}
    slots.join(*_entry(0, **kind, steps=6, interval=3))
    counts: list[tuple[int, ...]] = []
    while slots.active:
        if len(counts) == 1:
            slots.join(*_entry(1, **kind, steps=4, interval=2))
        counts.append(slots.row_counts)
        slots.step()
    alone, both, apart = (rows,), (2 * rows,), (rows, rows)
    assert counts == [alone, apart, both, both, apart, alone]


def test_rows_may_share_a_feature_array_or_come_from_several(host_step: Step) -> None:
    cache = FeatureCache()
    first, second = (np.random.default_rng(seed).random((3, 2, 4, 5)).astype(np.float32) for seed in (0, 1))
    keys = [RowKey(0, 0), RowKey(0, 1), RowKey(1, 0)]
    cache.keep(first, {key: row for row, key in enumerate(keys)})
    assert cache.take(keys) is first
    np.testing.assert_array_equal(cache.take(keys[:2]), first[:2])
    cache.keep(second, {keys[1]: 0})
    np.testing.assert_array_equal(cache.take(keys), np.stack([first[0], second[0], first[2]]))
    cache.free(0)
    with pytest.raises(KeyError):
        cache.take(keys)


def test_a_slot_that_is_left_early_is_clean_for_the_next(host_step: Step) -> None:
    kind: dict[str, Any] = {"sampler": "ddim", "steps": 5, "interval": 2}
    slots = _slots(host_step, 1)
    slot = slots.join(*_entry(0, **kind))
    for _ in range(2):
        slots.step()
    slots.leave(slot)
    assert slots.join(*_entry(1, **kind)) == slot
    while slots.active:
        slots.step()
    np.testing.assert_array_equal(slots.leave(slot), _alone(host_step, _entry(1, **kind), capacity=1))


def _shallow(weights: list[list[float]], interval: int) -> list[int]:
    return np.flatnonzero(shallow_rows(np.array(weights, np.float32), interval)).tolist()


def test_which_evaluations_are_shallow() -> None:
    guided, alone = [-6.5, 7.5], [0.0, 1.0]
    assert _shallow([guided] * 7, 1) == []
    assert _shallow([guided] * 7, 2) == [1, 3, 5]
    assert _shallow([guided] * 8, 2) == [1, 3, 5]  # the last one, 7, is full
    assert _shallow([guided] * 8, 3) == [1, 2, 4, 5]
    assert _shallow([guided] * 5, 100) == [1, 2, 3]
    assert _shallow([guided], 3) == []
    assert _shallow([alone] * 3 + [guided] * 3 + [alone] * 3, 4) == [1, 2, 5, 7]  # 3 and 6 are full
