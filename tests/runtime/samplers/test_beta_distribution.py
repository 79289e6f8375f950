import numpy as np
import pytest
import scipy.stats

from inpaintrt.samplers.beta_distribution import beta_quantile

PROBABILITIES = np.concatenate([np.linspace(0.0, 1.0, 501), [1e-12, 1e-6, 1.0 - 1e-9]])


@pytest.mark.parametrize(("a", "b"), [(0.6, 0.6), (0.5, 0.5), (1.0, 1.0), (2.0, 5.0), (5.0, 2.0), (0.3, 4.0)])
def test_quantiles_are_scipys(a: float, b: float) -> None:
    expected = scipy.stats.beta.ppf(PROBABILITIES, a, b)
    np.testing.assert_allclose(beta_quantile(PROBABILITIES, a, b), expected, rtol=1e-12, atol=1e-300)


def test_ends_are_exact() -> None:
    assert beta_quantile(np.array([0.0, 1.0]), 0.6, 0.6).tolist() == [0.0, 1.0]
