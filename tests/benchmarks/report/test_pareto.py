import pytest

from inpaintrt_bench.report.pareto import pareto_front


def test_no_point_beats_a_point_of_the_front() -> None:
    costs, gains = [10, 10, 20, 20, 40, 5], [0.4, 0.7, 0.6, 0.9, 0.9, 0.1]
    assert pareto_front(costs, gains) == [5, 1, 3]
    assert pareto_front([1, 1], [2, 2]) == [0]
    assert pareto_front([], []) == []
    with pytest.raises(ValueError, match="argument 2 is"):
        pareto_front([1], [])
