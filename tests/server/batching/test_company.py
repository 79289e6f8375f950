"""The result of a request does not depend on its company."""

import threading
from collections.abc import Iterator, Mapping
from itertools import cycle
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from inpaintrt.backends import Array
from inpaintrt.families import SD, SDXL, Family
from inpaintrt.loading import LoadedBundle, load_bundle
from inpaintrt.request import Request
from inpaintrt_server.batching import BatchingService, BatchingSettings, Event, Stepped
from runtime.image_tools import largest_difference
from server.batching.conftest import MakeService
from server.batching.tools import Ear, ask, hand_in, paint_alone, with_engine

KINDS: list[dict[str, Any]] = [
    {"num_inference_steps": 4, "seed": 1},
    {"num_inference_steps": 12, "guidance_scale": 1.0, "scheduler": "ddim", "seed": 2},
    {"num_inference_steps": 7, "scheduler": "euler_a", "seed": 3, "num_images_per_prompt": 3},
    {"num_inference_steps": 9, "scheduler": "dpmpp_2m_karras", "strength": 0.6, "seed": 4},
    {
        "num_inference_steps": 6,
        "scheduler": "unipc",
        "negative_prompt": "blue",
        "negative_mode": "symmetric",
        "seed": 5,
    },
    {"num_inference_steps": 5, "scheduler": "heun", "size": (96, 64), "image_seed": 1, "seed": 6},
    {"num_inference_steps": 8, "scheduler": "dpmpp_sde", "seed": [7, 8], "num_images_per_prompt": 2},
    {"num_inference_steps": 10, "guidance_interval": (0.2, 0.7), "size": (96, 64), "seed": 9},
    {"num_inference_steps": 5, "strength": 0.5, "fill": "noise", "seed": 10, "image_seed": 2},
    {
        "prompt": "a green house beside a tree " * 20,
        "num_inference_steps": 5,
        "long_prompts": "windows",
        "seed": 11,
    },
    {"num_inference_steps": 4, "compat": "diffusers", "height": 64, "width": 64, "seed": 12},
    {"timesteps": [999, 800, 400.5, 90], "scheduler": "heun", "strength": 0.7, "seed": 14},
    {"sigmas": [9.0, 4.0, 1.0, 0.3, 0.0], "scheduler": "euler", "seed": 15},
    {"num_inference_steps": 30, "scheduler": "lcm", "guidance_scale": 2.0, "seed": 13, "mask_blur": 2.0},
    {"num_inference_steps": 6, "mask_mode": "soft", "strength": 0.8, "seed": 14},
    {"num_inference_steps": 6, "task": "image-to-image", "scheduler": "euler", "seed": 15},
    {"num_inference_steps": 5, "task": "text-to-image", "guidance_rescale": 0.5, "seed": 16},
]
TASKS: list[dict[str, Any]] = [
    {"num_inference_steps": 6, "seed": 1},
    {"num_inference_steps": 8, "seed": 2, "task": "image-to-image", "scheduler": "euler_a"},
    {"num_inference_steps": 5, "seed": 3, "task": "text-to-image", "height": 64, "width": 64},
    {"num_inference_steps": 7, "seed": 4, "mask_mode": "soft", "scheduler": "dpmpp_2m"},
]
OF_SDXL: list[dict[str, Any]] = [
    {"prompt_2": "a blue house", "original_size": (100, 200)},
    {"negative_prompt": "a tree", "crops_coords_top_left": (3, 7)},
    {"negative_prompt": "a dog", "negative_prompt_2": "a cat", "guidance_rescale": 0.5},
    {"clip_skip": 1, "negative_original_size": (50, 60)},
]
"""What the requests of `TASKS` ask for besides, one by one."""


@pytest.fixture(scope="module")
def requests() -> list[Request]:
    return [ask(**kind) for kind in KINDS]


@pytest.fixture(scope="module")
def alone(demo: LoadedBundle, requests: list[Request]) -> list[list[Image.Image]]:
    return [paint_alone(demo, request) for request in requests]


@pytest.fixture(scope="module")
def service(demo: LoadedBundle) -> Iterator[BatchingService]:
    with BatchingService(demo, BatchingSettings(slots=5, queue=64)) as running:
        yield running


@pytest.mark.parametrize("seed", range(3))
def test_a_random_mixture_gives_the_images_of_the_pipeline(
    service: BatchingService, requests: list[Request], alone: list[list[Image.Image]], seed: int
) -> None:
    order = np.random.default_rng(seed).permutation(len(requests)).tolist()
    ears = [Ear() for _ in requests]
    for which in order:
        hand_in(service, requests[which], ears[which])
    for request, ear, expected in zip(requests, ears, alone, strict=True):
        finished = ear.finished()
        assert finished.seeds == request.seeds
        assert len(finished.images) == len(expected)
        for one, other in zip(finished.images, expected, strict=True):
            assert largest_difference(one, other) <= 1
    assert service.snapshot.active == 0


def test_arrivals_in_the_midst_of_others_give_the_same(
    service: BatchingService, requests: list[Request], alone: list[list[Image.Image]]
) -> None:
    waiting = iter(range(1, len(requests)))
    all_in = threading.Event()

    def let_one_more_in(event: Event) -> None:
        if isinstance(event, Stepped) and event.index % 2 == 0 and not all_in.is_set():
            which = next(waiting, None)
            if which is None:
                all_in.set()
            else:
                hand_in(service, requests[which], ears[which])

    ears = [Ear(let_one_more_in) for _ in requests]
    hand_in(service, requests[0], ears[0])
    assert all_in.wait(120)
    for ear, expected in zip(ears, alone, strict=True):
        for one, other in zip(ear.finished().images, expected, strict=True):
            assert largest_difference(one, other) <= 1


def test_in_one_row_bucket_company_changes_no_bit(make_service: MakeService) -> None:
    service = make_service(slots=4, row_buckets=(8,))
    sizes = cycle([4, 7, 5])
    crowd = [ask(seed=seed, num_inference_steps=next(sizes), scheduler="euler_a") for seed in range(9)]
    images: list[list[NDArray[np.uint8]]] = []
    for together in (False, True):
        ears = [Ear() for _ in crowd]
        for request, ear in zip(crowd, ears, strict=True):
            hand_in(service, request, ear)
            if not together:
                ear.last()
        images.append([np.asarray(ear.finished().images[0]) for ear in ears])
    for one, other in zip(*images, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("family", [SD, SDXL], ids=["sd", "sdxl"])
def test_the_tasks_of_a_text_to_image_checkpoint_share_a_step_and_change_no_bit(
    make_service: MakeService, request: pytest.FixtureRequest, family: Family
) -> None:
    bundle = "tiny_sdxl_bundle" if family is SDXL else "tiny_text_to_image_bundle"
    kinds = [task | more for task, more in zip(TASKS, OF_SDXL, strict=True)] if family is SDXL else TASKS
    loaded = load_bundle(request.getfixturevalue(bundle), backend_options={"threads": 1})
    asked = [ask(family=family, **kind) for kind in kinds]
    alone = [paint_alone(loaded, each) for each in asked]
    images: list[list[NDArray[np.uint8]]] = []
    for together in (False, True):
        shared: list[int] = []
        all_in = threading.Event()

        def count_slots(
            inputs: Mapping[str, Array], shared: list[int] = shared, all_in: threading.Event = all_in
        ) -> None:
            shared.append(int(np.count_nonzero(np.abs(inputs["guidance"]).sum(axis=1))))
            all_in.wait(120)  # the warm-up does, so that a batch begins when every request is there

        mode = "whole-batches" if together else "one-at-a-time"
        watched = with_engine(loaded, "denoiser", count_slots)
        service = make_service(watched, slots=4, row_buckets=(8,), mode=mode)
        ears = [Ear() for _ in asked]
        for each, ear in zip(asked, ears, strict=True):
            hand_in(service, each, ear)
        all_in.set()
        images.append([np.asarray(ear.finished().images[0]) for ear in ears])
        assert max(shared) == (len(asked) if together else 1)
    for one, other, (expected,) in zip(*images, alone, strict=True):
        np.testing.assert_array_equal(one, other)
        assert largest_difference(Image.fromarray(one), expected) <= 1


def test_a_pipeline_that_runs_beside_the_service_disturbs_nobody(
    service: BatchingService, demo: LoadedBundle, requests: list[Request], alone: list[list[Image.Image]]
) -> None:
    ear = Ear()
    hand_in(service, requests[2], ear)
    beside = paint_alone(demo, requests[0])
    assert largest_difference(beside[0], alone[0][0]) <= 1
    for one, other in zip(ear.finished().images, alone[2], strict=True):
        assert largest_difference(one, other) <= 1
