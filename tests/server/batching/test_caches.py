"""What was encoded once is not encoded again."""

from collections import Counter
from collections.abc import Mapping
from functools import partial

import numpy as np

from inpaintrt.backends import Array
from inpaintrt.loading import LoadedBundle
from inpaintrt.vae import LatentDistribution
from inpaintrt_server.batching import NullObserver
from inpaintrt_server.batching.events import Cache
from inpaintrt_server.batching.image_cache import ImageCache, content_key
from runtime.image_tools import largest_difference
from server.batching.conftest import MakeService
from server.batching.tools import Ear, ask, hand_in, paint_alone, with_engine


class Lookups(NullObserver):
    def __init__(self) -> None:
        self.heard: Counter[tuple[Cache, bool]] = Counter()

    def cache(self, name: Cache, *, hit: bool) -> None:
        self.heard[name, hit] += 1


def _distribution(value: float) -> LatentDistribution:
    return LatentDistribution(np.full((1, 4, 2, 2), value, np.float32), np.ones((1, 4, 2, 2), np.float32))


def test_the_least_recently_used_goes_first() -> None:
    cache = ImageCache(2 * 128)
    keys = [bytes([value]) for value in range(3)]
    for value, key in enumerate(keys[:2]):
        cache.get(key, lambda value=value: _distribution(value))  # type: ignore[misc]
    kept, hit = cache.get(keys[0], lambda: _distribution(9))
    assert (kept.mean[0, 0, 0, 0], hit) == (0, True)
    cache.get(keys[2], lambda: _distribution(2))
    assert [key in cache for key in keys] == [True, False, True]
    assert (cache.held, cache.hits, cache.misses) == (256, 1, 3)


def test_a_cache_of_no_size_keeps_nothing() -> None:
    cache = ImageCache(0)
    for _ in range(2):
        assert not cache.get(b"key", lambda: _distribution(1))[1]
    assert (cache.held, cache.misses) == (0, 2)


def test_content_is_told_by_shape_and_values_and_the_vae_by_its_name() -> None:
    image = np.arange(48, dtype=np.float32).reshape(1, 3, 4, 4)
    key = partial(content_key, vae="full")
    assert key(image) == key(image.copy())
    assert key(image) != key(image.reshape(1, 3, 2, 8))
    assert key(image) != key(image + 1)
    assert key(image[:, :, ::2]) == key(image[:, :, ::2].copy())
    assert key(image) != content_key(image, "tiny")


def test_latents_without_a_distribution_take_half_the_room() -> None:
    latents = np.zeros((1, 4, 2, 2), np.float32)
    cache = ImageCache(1000)
    cache.get(b"key", lambda: LatentDistribution(latents, None))
    assert cache.held == latents.nbytes


def test_an_image_and_prompts_that_come_again_run_no_encoder(
    demo: LoadedBundle, make_service: MakeService
) -> None:
    runs: Counter[str] = Counter()
    watched = demo
    for component in ("vae_encoder", "text_encoder"):

        def count(inputs: Mapping[str, Array], component: str = component) -> None:
            runs[component] += 1

        watched = with_engine(watched, component, count)
    lookups = Lookups()
    service = make_service(watched, observer=lookups)
    requests = [ask(seed=seed, strength=0.5, num_inference_steps=8) for seed in (1, 2, 1)]
    ears = [Ear() for _ in requests]
    for request, ear in zip(requests, ears, strict=True):
        hand_in(service, request, ear)
        ear.finished()
    assert runs == {"vae_encoder": 2, "text_encoder": 2}
    assert lookups.heard == {
        ("images", False): 2,
        ("images", True): 4,
        ("prompts", False): 2,
        ("prompts", True): 4,
    }
    assert service.snapshot.cache_hits == {"prompts": 4, "images": 4}
    assert service.snapshot.cache_misses == {"prompts": 2, "images": 2}
    first, other, again = (ear.finished().images[0] for ear in ears)
    assert first.tobytes() == again.tobytes()
    assert largest_difference(first, other) > 1  # what is drawn from the distribution is not kept
    for request, ear in zip(requests, ears, strict=True):
        assert largest_difference(ear.finished().images[0], paint_alone(demo, request)[0]) <= 1


def test_without_caches_everything_is_encoded_each_time(make_service: MakeService) -> None:
    service = make_service(prompt_cache=0, image_cache=0)
    for _ in range(2):
        ear = Ear()
        hand_in(service, ask(), ear)
        ear.finished()
    assert service.snapshot.cache_hits == {"prompts": 0, "images": 0}
    assert service.snapshot.cache_misses == {"prompts": 4, "images": 2}
