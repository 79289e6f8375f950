"""The checks for GPUs, on the CPU: what is right passes, and what is wrong does not."""

import dataclasses
from collections.abc import Iterator
from copy import copy
from functools import partial
from itertools import count
from pathlib import Path

import numpy as np
import pytest

from gpu.checks import (
    check_latents,
    check_likeness,
    check_meaning,
    check_memory,
    check_quiet_steps,
    check_repeats,
    check_timings,
    count_steps,
    paint,
    paint_case,
    peak_memory,
    remembered,
    share_slots,
)
from inpaintrt.demo import load_scene
from inpaintrt.output import Timings
from inpaintrt.pipeline import InpaintPipeline
from inpaintrt.store import find_bundle
from runtime.backends.bench import Bench

MEGABYTE = 10**6


@pytest.fixture(scope="module")
def pipe() -> Iterator[InpaintPipeline]:
    with InpaintPipeline.from_bundle("demo") as pipe:
        yield pipe


def test_images_are_like_themselves_and_unlike_others(pipe: InpaintPipeline) -> None:
    expected = paint(pipe, num_images_per_prompt=2)
    assert expected.shape == (2, 128, 128, 3)
    assert check_likeness(paint(pipe, num_images_per_prompt=2), expected) == float("inf")
    assert 40 < check_likeness(expected + np.float32(0.005), expected) < 50
    for wrong in (paint(pipe, num_images_per_prompt=2, seed=2), expected[:1], expected + np.float32(0.02)):
        with pytest.raises(AssertionError):
            check_likeness(wrong, expected)


def test_one_wrong_image_of_many_is_seen(pipe: InpaintPipeline) -> None:
    expected = np.zeros((9, 128, 128, 3), np.float32)
    found = expected.copy()
    found[4, 30:60, 30:60] = 0.2
    with pytest.raises(AssertionError):
        check_likeness(found, expected)


def test_images_that_are_not_painted_have_no_meaning(pipe: InpaintPipeline) -> None:
    assert check_meaning(partial(paint_case, pipe)) <= 1
    with pytest.raises(AssertionError):
        check_meaning(lambda case, _: case.image)


def test_latents_of_shared_slots_repeat(pipe: InpaintPipeline) -> None:
    expected = share_slots(pipe)
    assert check_latents(share_slots(pipe), expected) == 0
    with pytest.raises(AssertionError):
        check_latents(expected[::-1], expected)


def test_what_changes_does_not_repeat(pipe: InpaintPipeline) -> None:
    assert len(check_repeats(lambda: paint(pipe, num_inference_steps=1), 3)) == 3
    seeds = count()
    with pytest.raises(AssertionError):
        check_repeats(lambda: paint(pipe, num_inference_steps=1, seed=next(seeds)), 3)


def test_steps_on_a_device_are_quiet(tmp_path: Path) -> None:
    bench = Bench(find_bundle("demo"), tmp_path)
    pipe = bench.pipeline()
    paint(pipe, num_inference_steps=2)
    quiet = check_quiet_steps(count_steps(pipe, bench.device))
    assert quiet == [[0, 1]] * len(quiet)


@pytest.mark.parametrize("counts", [[(0, 0), (1, 1)], [(0, 0), (0, 2)], [(3, 5)]])
def test_steps_that_allocate_or_wait_are_not_quiet(counts: list[tuple[int, int]]) -> None:
    with pytest.raises(AssertionError):
        check_quiet_steps(counts)


def test_steps_are_timed(pipe: InpaintPipeline) -> None:
    scene = load_scene()

    def timed() -> Timings:
        return pipe(scene.script.prompts[0], scene.image, scene.mask, num_inference_steps=3).timings

    measured = check_timings(timed)
    assert measured["denoise"] <= measured["total"] <= measured["passed"]
    kept = timed()
    wrong = [
        dataclasses.replace(kept, steps=()),
        dataclasses.replace(kept, steps=(0.0, 1.0)),
        dataclasses.replace(kept, total=1e6),
    ]
    for timings in wrong:
        with pytest.raises(AssertionError):
            check_timings(partial(copy, timings))


def test_memory_that_grows_is_seen() -> None:
    kept: list[int] = []
    assert check_memory(lambda: 7, kept.append, times=5, warm_up=2) == 0
    assert kept == [0, 1, 0, 1, 2, 3, 4]
    with pytest.raises(AssertionError):
        check_memory(lambda: len(kept) * MEGABYTE, kept.append, times=20, warm_up=2)


def test_the_peak_is_the_maximum_of_all_steps(pipe: InpaintPipeline) -> None:
    looks: list[int] = []

    def used() -> int:
        looks.append(0)
        return 9 if len(looks) == 3 else 1

    assert peak_memory(pipe, used) == 9
    assert len(looks) == 10  # the demo's own sampler evaluates the UNet once more than it has steps


def test_what_is_remembered_is_made_once(tmp_path: Path) -> None:
    made: list[int] = []

    def make() -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        made.append(1)
        return np.ones((2, 3), np.float32)

    for _ in range(2):
        np.testing.assert_array_equal(remembered(tmp_path / "ones.npy", make), np.ones((2, 3)))
    assert made == [1]
    assert [path.name for path in tmp_path.iterdir()] == ["ones.npy"]
