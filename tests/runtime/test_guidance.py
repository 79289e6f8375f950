"""Guidance as weights: each rule equals its formula."""

import numpy as np
import pytest

from inpaintrt.errors import ParameterError
from inpaintrt.guidance import Guidance


def _guide(guidance: Guidance, predictions: list[float], *, has_negative: bool) -> float:
    return float(guidance.weights(1, has_negative=has_negative)[0] @ np.array(predictions))


@pytest.mark.parametrize("scale", [1.5, 7.5, 30.0])
def test_classifier_free_guidance(scale: float) -> None:
    empty, prompt = 0.3, -0.8
    expected = empty + scale * (prompt - empty)
    assert _guide(Guidance(scale), [empty, prompt], has_negative=False) == pytest.approx(expected, rel=1e-5)


def test_symmetric_negative_prompt() -> None:
    empty, negative, prompt = 0.3, 0.5, -0.8
    expected = empty + 7.5 * (prompt - empty) - 7.5 * (negative - empty)
    guidance = Guidance(7.5, "symmetric")
    assert _guide(guidance, [empty, negative, prompt], has_negative=True) == pytest.approx(expected, rel=1e-5)


def test_symmetric_without_negative_prompt_is_plain_guidance() -> None:
    symmetric, plain = (
        Guidance(7.5, mode).weights(4, has_negative=False) for mode in ("symmetric", "replace")
    )
    np.testing.assert_array_equal(symmetric, plain)


@pytest.mark.parametrize("scale", [1.0, 0.0, -3.0])
def test_no_guidance_evaluates_the_prompt_alone(scale: float) -> None:
    guidance = Guidance(scale)
    assert not guidance.active
    np.testing.assert_array_equal(guidance.weights(3, has_negative=True), np.ones((3, 1)))


def test_rows_outside_the_interval_are_saved() -> None:
    weights = Guidance(7.5, interval=(0.25, 0.75)).weights(8, has_negative=False)
    evaluated = np.count_nonzero(weights, axis=1)
    assert evaluated.tolist() == [1, 1, 2, 2, 2, 2, 1, 1]
    np.testing.assert_array_equal(weights[0], [0, 1])


@pytest.mark.parametrize("scale", [float("nan"), float("inf")])
def test_a_scale_that_is_not_finite_is_refused(scale: float) -> None:
    with pytest.raises(ParameterError, match="guidance_scale"):
        Guidance(scale)


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(ParameterError, match="negative_mode"):
        Guidance(negative="other")  # type: ignore[arg-type]


@pytest.mark.parametrize("interval", [(0.5, 0.2), (-0.1, 1.0), (0.0, 1.1), (float("nan"), 1.0)])
def test_an_interval_that_is_none_is_refused(interval: tuple[float, float]) -> None:
    with pytest.raises(ParameterError, match="guidance_interval"):
        Guidance(interval=interval)
