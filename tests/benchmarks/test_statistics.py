"""Statistics on data whose statistics are known."""

import math

import pytest

from inpaintrt_bench.report.schema import make_series, pair_ratios, summarize


def test_one_to_one_hundred() -> None:
    result = summarize([float(number) for number in range(100, 0, -1)])
    assert result.count == 100
    assert result.median == 50.5
    assert result.mean == 50.5
    assert result.p90 == pytest.approx(90.1)
    assert result.p99 == pytest.approx(99.01)
    assert (result.minimum, result.maximum) == (1.0, 100.0)


def test_an_outlier_moves_the_tail_and_not_the_median() -> None:
    result = summarize([1.0, 1.0, 1.0, 1.0, 100.0])
    assert result.median == 1.0
    assert result.mean == pytest.approx(20.8)
    assert result.p90 == pytest.approx(60.4)
    assert result.maximum == 100.0


def test_a_single_sample_is_everything() -> None:
    result = summarize([3.0])
    assert {result.median, result.mean, result.p90, result.p99, result.minimum, result.maximum} == {3.0}


@pytest.mark.parametrize("samples", [[], [1.0, math.nan], [math.inf]])
def test_nothing_and_nonsense_have_no_statistics(samples: list[float]) -> None:
    with pytest.raises(ValueError, match="finite samples"):
        summarize(samples)


def test_a_series_keeps_order_unit_and_warm_up() -> None:
    series = make_series([3, 1, 2], "J", warm_up=4)
    assert series.samples == (3.0, 1.0, 2.0)
    assert series.unit == "J"
    assert series.warm_up == 4
    assert series.statistics.median == 2.0


def test_ratios_are_taken_round_by_round() -> None:
    slow_round = 10.0
    ratios = pair_ratios([1.0, 2.0 * slow_round, 3.0], [2.0, 4.0 * slow_round, 6.0])
    assert ratios == [0.5, 0.5, 0.5]
    with pytest.raises(ValueError, match="shorter"):
        pair_ratios([1.0], [])
