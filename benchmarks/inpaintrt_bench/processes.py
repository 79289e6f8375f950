"""Measurements in processes of their own."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import ParamSpec, TypeVar

__all__ = ["KEEP_BYTE_CODE", "run_alone"]

KEEP_BYTE_CODE = {"PYTHONDONTWRITEBYTECODE": ""}
"""For the environment of processes whose imports are timed: users import what was compiled before."""

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


def run_alone(
    function: Callable[_Arguments, _Result], *arguments: _Arguments.args, **options: _Arguments.kwargs
) -> _Result:
    """Call a function in a fresh interpreter and return its result.

    Args:
        function: A function of a module.
        arguments: Its arguments, which are pickled, as is the result.
        options: Its arguments by name.

    Raises:
        BrokenProcessPool: The process was killed, for example because memory ran out.
        Exception: Whatever the function raises.
    """
    with ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments, **options).result()
