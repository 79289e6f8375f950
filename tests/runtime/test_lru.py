"""The cache of what was used last."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from inpaintrt.lru import LruCache


def test_the_least_recently_used_leaves_first() -> None:
    cache: LruCache[str, str] = LruCache(2)
    for key in ("a", "b", "a", "c"):
        assert cache.get(key, key.upper)[0] == key.upper()
    assert [key in cache for key in ("a", "b", "c")] == [True, False, True]
    assert (cache.held, cache.hits, cache.misses) == (2, 1, 3)


def test_values_leave_until_the_sizes_fit() -> None:
    cache: LruCache[str, bytes] = LruCache(10, len)
    for key, size in (("a", 4), ("b", 4), ("c", 9)):
        cache.get(key, lambda size=size: bytes(size))  # type: ignore[misc]
    assert [key in cache for key in ("a", "b", "c")] == [False, False, True]
    assert cache.held == 9
    value, hit = cache.get("d", lambda: bytes(11))
    assert (len(value), hit, cache.held, "d" in cache) == (11, False, 0, False)


def test_a_value_of_none_is_kept() -> None:
    cache: LruCache[str, None] = LruCache(1)
    assert [cache.get("a", lambda: None)[1] for _ in range(2)] == [False, True]


def test_a_failed_computation_changes_nothing() -> None:
    cache: LruCache[str, int] = LruCache(1)
    with pytest.raises(ZeroDivisionError):
        cache.get("a", lambda: 1 // 0)
    assert (cache.held, cache.misses, "a" in cache) == (0, 0, False)
    assert cache.get("a", lambda: 3) == (3, False)


def test_threads_that_want_the_same_compute_it_once() -> None:
    cache: LruCache[int, int] = LruCache(8)
    computed: list[int] = []
    together = threading.Barrier(8)

    def ask(_: int) -> int:
        together.wait()
        return cache.get(1, lambda: computed.append(1) or 7)[0]  # type: ignore[func-returns-value]

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(ask, range(8))) == {7}
    assert computed == [1]
