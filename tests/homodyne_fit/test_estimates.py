import numpy as np
import pytest

from homodyne_fit.data.dataset import TwoTimeData
from homodyne_fit.data.estimates import estimated_scaling, noise_guess

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
def test_contrast_and_offset_are_means_at_either_end_of_the_lags(n):
    c2 = np.random.default_rng(n).normal(1.0, 0.1, (3, n, n))
    fifth = max(1, (n - 1) // 5)
    for k, (contrast, offset) in enumerate(estimated_scaling(data_of(c2)).reshape(2, 3).T):
        low = np.mean(values_at_lags(c2[k], range(n - fifth, n)))
        high = np.mean(values_at_lags(c2[k], range(1, min(fifth, 4) + 1)))
        assert offset == pytest.approx(low, rel=1e-12)
        assert contrast == pytest.approx(high - low, rel=1e-12)


def test_only_points_above_the_diagonal_count():
    c2 = np.random.default_rng(0).normal(1.0, 0.1, (2, 40, 40))
    spoiled = c2.copy()
    spoiled[:, *np.tril_indices(40)] = 1e6
    np.testing.assert_array_equal(
        estimated_scaling(data_of(spoiled)), estimated_scaling(data_of(c2))
    )
    assert noise_guess(data_of(spoiled)) == noise_guess(data_of(c2))


@pytest.mark.parametrize("noise", [0.01, 0.1, 0.5, 2.0])
def test_noise_of_any_size_is_not_taken_for_contrast(noise):
    n, rng = 300, np.random.default_rng(7)
    lag = np.abs(np.subtract.outer(np.arange(n), np.arange(n)))
    c2 = 1.02 + 0.3 * np.exp(-lag / 30.0) + rng.normal(0, noise, (4, n, n))
    contrast, offset = estimated_scaling(data_of(c2)).reshape(2, 4)
    # Means of 1190 and of 1800 points.
    error = noise * np.array([1 / np.sqrt(1190) + 1 / np.sqrt(1800), 1 / np.sqrt(1800)])
    # Over the shortest four lags the decay is 8 %.
    np.testing.assert_allclose(contrast, 0.3, atol=4 * error[0] + 0.025)
    np.testing.assert_allclose(offset, 1.02, atol=4 * error[1] + 0.001)


def test_outliers_do_not_count_and_skewness_is_no_bias():
    n, rng = 200, np.random.default_rng(8)
    c2 = rng.gamma(2.0, 0.5, (1, n, n))  # of mean 1, but of median 0.84
    c2[0, 20, 30:60] = 1e4
    c2[0, 5, 180:] = 1e4
    _, (offset,) = np.split(estimated_scaling(data_of(c2)), 2)
    assert offset == pytest.approx(1.0, abs=0.1)


def test_missing_points_are_passed_over():
    c2 = np.random.default_rng(1).normal(1.0, 0.1, (1, 30, 30))
    c2[0, 3, :] = np.nan
    c2[0, :, 20] = np.inf
    (contrast,), (offset,) = np.split(estimated_scaling(data_of(c2)), 2)
    low = np.mean(values_at_lags(c2[0], range(25, 30)))
    assert offset == pytest.approx(low, rel=1e-12)
    assert contrast == pytest.approx(np.mean(values_at_lags(c2[0], range(1, 5))) - low, rel=1e-12)


def test_without_a_long_lag_all_points_serve():
    c2 = np.random.default_rng(2).normal(1.0, 0.1, (1, 20, 20))
    lag = np.subtract.outer(np.arange(20), np.arange(20))
    c2[0, np.abs(lag) > 10] = np.nan
    _, (offset,) = np.split(estimated_scaling(data_of(c2)), 2)
    assert offset == pytest.approx(np.mean(values_at_lags(c2[0], range(1, 20))))


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
