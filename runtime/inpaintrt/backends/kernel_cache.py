"""Kernels that TensorRT-RTX has finished on this GPU, kept for the next process."""

from __future__ import annotations

import logging
import re

from inpaintrt.atomic import atomic_write
from inpaintrt.backends.tensorrt_api import IRuntimeCache, IRuntimeConfigRtx
from inpaintrt.store import cache_folder

__all__ = ["KernelCache"]

_LOG = logging.getLogger(__name__)
_KEY_LENGTH = 16


class KernelCache:
    """The runtime cache of one plan, in a file of its own.

    Args:
        key: The plan's key.
        environment: Library, GPU and driver, which decide whether a cache still holds.
    """

    def __init__(self, key: str, environment: str) -> None:
        name = re.sub(r"[^A-Za-z0-9.]+", "-", f"{environment}-{key[:_KEY_LENGTH]}")
        self.path = cache_folder() / "kernels" / f"{name}.cache"
        self._cache: IRuntimeCache | None = None
        self._content = b""

    def attach(self, config: IRuntimeConfigRtx) -> None:
        """Have contexts of a configuration use the cache, the file's content in it where that still holds."""
        if self._cache is None:
            self._cache = config.create_runtime_cache()
            self._content = self._read()
            if self._content and not self._cache.deserialize(self._content):
                _LOG.warning("%s is of another library, GPU or driver and is made anew", self.path)
                self._content = b""
        config.set_runtime_cache(self._cache)

    def save(self) -> None:
        """Write the file, whole or not at all, if there is anything new."""
        if self._cache is None:
            return
        content = bytes(memoryview(self._cache.serialize()))
        if content != self._content:
            self._write(content)
            self._content = content

    def _read(self) -> bytes:
        try:
            return self.path.read_bytes()
        except OSError:  # there is none, or it cannot be read: kernels are finished anew
            return b""

    def _write(self, content: bytes) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(self.path) as partial:
                partial.write_bytes(content)
        except OSError as error:  # a cache that cannot be kept costs time, nothing else
            _LOG.warning("finished kernels cannot be kept in %s: %s", self.path, error)
