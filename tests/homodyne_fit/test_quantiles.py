import numpy as np
import pytest

from homodyne_fit.data.dataset import TwoTimeData
from homodyne_fit.data.estimates import noise_guess, quantile_scaling

pytestmark = pytest.mark.numerics


def data_of(c2):
    k = len(c2)
    return TwoTimeData(c2, np.linspace(0.0, 90.0, k), np.full(k, 0.0054), 0.1, "a small matrix")


def values_at_lags(matrix, lags):
    """Entries (i, i + lag) one by one, finite ones only."""
    n = len(matrix)
    entries = [matrix[i, i + lag] for lag in lags for i in range(n - lag)]
    return np.array([entry for entry in entries if np.isfinite(entry)])


@pytest.mark.parametrize("n", [3, 6, 21, 61])
def test_contrast_and_offset_are_quantiles_at_either_end_of_the_lags(n):
    c2 = np.random.default_rng(n).normal(1.0, 0.1, (3, n, n))
    fifth = max(1, (n - 1) // 5)
    for k, (contrast, offset) in enumerate(quantile_scaling(data_of(c2)).reshape(2, 3).T):
        low = np.quantile(values_at_lags(c2[k], range(n - fifth, n)), 0.1)
        high = np.quantile(values_at_lags(c2[k], range(1, fifth + 1)), 0.9)
        assert offset == pytest.approx(low, rel=1e-12)
        assert contrast == pytest.approx(high - low, rel=1e-12)


def test_only_points_above_the_diagonal_count():
    c2 = np.random.default_rng(0).normal(1.0, 0.1, (2, 40, 40))
    spoiled = c2.copy()
    spoiled[:, *np.tril_indices(40)] = 1e6
    np.testing.assert_array_equal(quantile_scaling(data_of(spoiled)), quantile_scaling(data_of(c2)))
    assert noise_guess(data_of(spoiled)) == noise_guess(data_of(c2))


def test_many_lags_are_sampled_evenly():
    """Of a long measurement some lags are looked at: a linear decay shows which."""
    n = 801
    lag = np.abs(np.subtract.outer(np.arange(n), np.arange(n)))
    contrast, offset = quantile_scaling(data_of(2.0 - lag[None] / n))
    # Entries per lag fall with the lag, so quantiles of the values weight them.
    low = np.quantile(values_at_lags(2.0 - lag / n, range(n - 160, n)), 0.1)
    high = np.quantile(values_at_lags(2.0 - lag / n, range(1, 161)), 0.9)
    assert offset == pytest.approx(low, abs=0.01)
    assert contrast == pytest.approx(high - low, abs=0.01)


def test_missing_points_are_passed_over():
    c2 = np.random.default_rng(1).normal(1.0, 0.1, (1, 30, 30))
    c2[0, 3, :] = np.nan
    c2[0, :, 20] = np.inf
    (contrast,), (offset,) = np.split(quantile_scaling(data_of(c2)), 2)
    low = np.quantile(values_at_lags(c2[0], range(25, 30)), 0.1)
    assert offset == pytest.approx(low, rel=1e-12)
    assert contrast == pytest.approx(
        np.quantile(values_at_lags(c2[0], range(1, 6)), 0.9) - low, rel=1e-12
    )


def test_without_a_long_lag_all_points_serve():
    c2 = np.random.default_rng(2).normal(1.0, 0.1, (1, 20, 20))
    lag = np.subtract.outer(np.arange(20), np.arange(20))
    c2[0, np.abs(lag) > 10] = np.nan
    _, (offset,) = np.split(quantile_scaling(data_of(c2)), 2)
    assert offset == pytest.approx(np.quantile(values_at_lags(c2[0], range(1, 20)), 0.1))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("noise", [0.003, 0.02, 0.1])
def test_the_noise_is_guessed_from_neighbours_on_a_diagonal(measure, noise, seed):
    # 1600 differences: the median of their size is good to 3 %.
    data = measure(n=301, phi=np.arange(8) * 20.0, noise=noise, seed=seed).data
    assert noise_guess(data) == pytest.approx(noise, rel=0.1)


def test_a_single_neighbourless_frame_gives_no_noise():
    c2 = np.full((1, 3, 3), np.nan)
    c2[0, 0, 1] = 1.1
    assert noise_guess(data_of(c2)) == 0.0
