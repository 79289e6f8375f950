"""Requests with step caching share the engine with others, at whatever evaluations they are."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from inpaintrt.backends import Array
from inpaintrt.bundle import SHALLOW_DENOISER
from inpaintrt.errors import ParameterError
from inpaintrt.loading import LoadedBundle, load_bundle
from inpaintrt.request import Request
from inpaintrt_server.batching import BatchingService
from runtime.image_tools import largest_difference
from server.batching.conftest import MakeService
from server.batching.tools import Ear, ask, hand_in, paint_alone, with_engine
from step_caches import make_bundle_with_step_cache

KINDS: list[dict[str, Any]] = [
    {"num_inference_steps": 8, "cache_interval": 2, "seed": 1},
    {"num_inference_steps": 5, "scheduler": "euler_a", "seed": 2},
    {"num_inference_steps": 9, "cache_interval": 3, "scheduler": "dpmpp_2m", "strength": 0.7, "seed": 3},
    {"num_inference_steps": 6, "cache_interval": 2, "scheduler": "heun", "guidance_scale": 1.0, "seed": 4},
    {"num_inference_steps": 8, "cache_interval": 3, "guidance_interval": (0.2, 0.7), "seed": 5},
    {"num_inference_steps": 7, "cache_interval": 5, "negative_prompt": "blue", "seed": 6},
    {
        "num_inference_steps": 6,
        "cache_interval": 2,
        "negative_prompt": "blue",
        "negative_mode": "symmetric",
        "num_images_per_prompt": 2,
        "seed": 7,
    },
]


@pytest.fixture(scope="module")
def loaded(bundle_cache: Path) -> LoadedBundle:
    return load_bundle(make_bundle_with_step_cache(bundle_cache), backend_options={"threads": 1})


def _images(
    service: BatchingService, asked: list[Request], *, together: bool
) -> list[list[NDArray[np.uint8]]]:
    ears = [Ear() for _ in asked]
    for request, ear in zip(asked, ears, strict=True):
        hand_in(service, request, ear)
        if not together:
            ear.last()
    return [[np.asarray(image) for image in ear.finished().images] for ear in ears]


def test_in_one_row_bucket_company_changes_no_bit(make_service: MakeService, loaded: LoadedBundle) -> None:
    guided: dict[str, list[int]] = {"denoiser": [], SHALLOW_DENOISER: []}

    def count(name: str, inputs: Mapping[str, Array]) -> None:
        guided[name].append(int(np.count_nonzero(np.abs(inputs["guidance"]).sum(axis=1))))

    watched = loaded
    for name in guided:
        watched = with_engine(watched, name, partial(count, name))
    service = make_service(watched, slots=5, row_buckets=(16,))
    asked = [ask(**kind) for kind in KINDS]
    alone = _images(service, asked, together=False)
    for counts in guided.values():
        assert set(counts) <= {1, 2}  # of one request at a time, the last of which has two results
        counts.clear()
    company = _images(service, asked, together=True)
    assert max(guided["denoiser"]) > 2
    assert max(guided[SHALLOW_DENOISER]) > 2
    for request, own, shared in zip(asked, alone, company, strict=True):
        expected = paint_alone(loaded, request)
        assert len(own) == len(shared) == len(expected)
        for one, other, image in zip(own, shared, expected, strict=True):
            np.testing.assert_array_equal(one, other)
            assert largest_difference(image, Image.fromarray(one)) <= 1


def test_figures_count_the_rows_of_both_evaluations(make_service: MakeService, loaded: LoadedBundle) -> None:
    service = make_service(loaded, slots=2, row_buckets=(8,))
    _images(service, [ask(num_inference_steps=6, cache_interval=3)], together=False)
    snapshot = service.snapshot
    assert (snapshot.steps, snapshot.rows, snapshot.padded_rows) == (6, 12, 48)


def test_a_bundle_without_it_refuses(make_service: MakeService, tiny_bundle: Path) -> None:
    service = make_service(load_bundle(tiny_bundle, backend_options={"threads": 1}))
    with pytest.raises(ParameterError, match="has no step caching"):
        hand_in(service, ask(cache_interval=2), Ear())
