"""The reference for step caching: the package `deepcache` around diffusers' UNet."""

import contextlib
from collections.abc import Collection, Iterator
from types import SimpleNamespace
from typing import Any

from DeepCache.extension.deepcache import DeepCacheSDHelper

__all__ = ["caching", "caching_but_for"]


@contextlib.contextmanager
def caching(unet: Any, scheduler: Any, interval: int, branch: int = 0) -> Iterator[None]:
    """DeepCache as it is: full where the index of the timestep is a multiple of the interval.

    Args:
        unet: The UNet of a pipeline.
        scheduler: The scheduler of the pipeline, whose timesteps must all differ.
        interval: `cache_interval`.
        branch: `cache_branch_id`.
    """
    helper: Any = DeepCacheSDHelper(pipe=SimpleNamespace(unet=unet, scheduler=scheduler))
    helper.set_params(cache_interval=interval, cache_branch_id=branch)
    helper.enable()
    try:
        yield
    finally:
        helper.disable()


class _Scheduled(DeepCacheSDHelper):  # type: ignore[misc]
    """DeepCache with other full evaluations: it looks timesteps up by their values, which may come twice."""

    def __init__(self, unet: Any, full: Collection[int]) -> None:
        super().__init__(pipe=SimpleNamespace(unet=unet, scheduler=None))
        self._full = full
        self.evaluations = 0

    def wrap_unet_forward(self) -> None:
        self.function_dict["unet_forward"] = forward = self.pipe.unet.forward

        def scheduled_forward(*args: Any, **kwargs: Any) -> Any:
            self.start_timestep = 0
            self.cur_timestep = 0 if self.evaluations in self._full else 1
            self.evaluations += 1
            return forward(*args, **kwargs)

        self.pipe.unet.forward = scheduled_forward


@contextlib.contextmanager
def caching_but_for(unet: Any, full: Collection[int]) -> Iterator[None]:
    """DeepCache's modules, with these evaluations full, counted from 0, and all others shallow."""
    helper: Any = _Scheduled(unet, full)
    helper.set_params(cache_interval=2)
    helper.enable()
    try:
        yield
    finally:
        helper.disable()
    assert helper.evaluations > max(full), "the run is shorter than the list of full evaluations"
