"""A problem in one line, for interfaces whose errors hold one text."""

from __future__ import annotations

from inpaintrt_server.http.errors import Problem

__all__ = ["in_one_line"]


def in_one_line(problem: Problem) -> str:
    """What is wrong, what was received, what was expected, and what to do."""
    details = (
        ("received", problem.received),
        ("expected", problem.expected),
        ("what to do", problem.what_to_do),
    )
    return "; ".join([problem.message, *(f"{name}: {text}" for name, text in details if text is not None)])
