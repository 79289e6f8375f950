"""A cache of what was used last."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock
from typing import Generic, TypeVar

__all__ = ["LruCache"]

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


def _one(_: object) -> int:
    return 1


class LruCache(Generic[K, V]):
    """Keeps values up to a total size; the least recently used leave first.

    Threads may share a cache. One of them at a time computes a value, so that none is computed twice.

    Args:
        capacity: Maximum size of what is kept, in the unit of `size_of`; 0 keeps nothing.
        size_of: The size of a value, constant while it is kept; by default values are counted.

    Attributes:
        held: The total size of the values that are kept.
        hits: Lookups that found a value.
        misses: Lookups that computed one.
    """

    def __init__(self, capacity: int, size_of: Callable[[V], int] = _one) -> None:
        self._capacity, self._size_of = capacity, size_of
        self._values: OrderedDict[K, V] = OrderedDict()
        self._lock = Lock()
        self.held = self.hits = self.misses = 0

    def __contains__(self, key: K) -> bool:
        return key in self._values

    def get(self, key: K, compute: Callable[[], V]) -> tuple[V, bool]:
        """The value of a key, computed if it is not kept; and whether it was kept.

        What `compute` raises is raised here, and nothing changes.
        """
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                self.hits += 1
                return self._values[key], True
            value = compute()
            self.misses += 1
            self._values[key] = value
            self.held += self._size_of(value)
            while self.held > self._capacity:
                _, oldest = self._values.popitem(last=False)
                self.held -= self._size_of(oldest)
            return value, False
