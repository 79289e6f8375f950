"""Which of several settings no other beats."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["pareto_front"]


def pareto_front(costs: Sequence[float], gains: Sequence[float]) -> list[int]:
    """Which points are on the Pareto front: nothing gives more for the same cost or less.

    Args:
        costs: What each point costs; less is better.
        gains: What each point gives; more is better.

    Returns:
        Indices of the front's points by rising cost, and so by rising gain. Of equal points the first counts.

    Raises:
        ValueError: They are not equally many.
    """
    points = sorted((cost, -gain, index) for index, (cost, gain) in enumerate(zip(costs, gains, strict=True)))
    front: list[int] = []
    for _, negative, index in points:
        if not front or -negative > gains[front[-1]]:
            front.append(index)
    return front
