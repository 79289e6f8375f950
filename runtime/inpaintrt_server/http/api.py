"""One interface: its paths, its router, and the JSON of its errors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fastapi import APIRouter

from inpaintrt_server.http.errors import Problem, Shape, own_shape

__all__ = ["OTHER", "Api", "find_api"]


def _unchanged(problem: Problem) -> Problem:
    return problem


@dataclass(frozen=True)
class Api:
    """An interface of the server.

    Attributes:
        name: Its label in metrics and in the log.
        prefixes: What its paths begin with.
        router: Its paths.
        shape: The JSON that it wraps problems in.
        open: Whether its paths need no key.
        monitoring: Whether its paths are for health probes, which ask even where there are too many
            connections, and may leave out the header Host; those that are open answer under every name.
        requests: Methods and paths that belong to it beside its prefixes.
        adapt: Changes problems to what its clients know, before they are shaped.
    """

    name: str
    prefixes: tuple[str, ...]
    router: APIRouter
    shape: Shape = own_shape
    open: bool = False
    monitoring: bool = False
    requests: frozenset[tuple[str, str]] = frozenset()
    adapt: Callable[[Problem], Problem] = _unchanged


OTHER = Api("other", (), APIRouter())
"""What belongs to no interface."""


def find_api(apis: Sequence[Api], method: str, path: str) -> Api:
    """The interface that a request belongs to; of several the one with the longest prefix."""
    exact = [api for api in apis if (method, path) in api.requests]
    if exact:
        return exact[0]
    matches = [
        (len(prefix), api)
        for api in apis
        for prefix in api.prefixes
        if path == prefix or path.startswith(f"{prefix}/")
    ]
    return max(matches, key=lambda match: match[0])[1] if matches else OTHER
