import numpy as np
import pytest

import homodyne_fit as hf
from homodyne_fit.data.uncomputed import uncomputed_zeros

N = 60


@pytest.fixture
def c2():
    lag = np.abs(np.subtract.outer(np.arange(N), np.arange(N)))
    noise = np.random.default_rng(1).normal(0, 0.02, (N, N))
    return 1 + 0.3 * np.exp(-lag / 10) + np.triu(noise) + np.triu(noise, 1).T


def upper(mask):
    return np.triu(mask, 1)


def test_a_complete_matrix_has_none(c2):
    assert uncomputed_zeros(c2) is None


def test_frames_without_counts(c2):
    c2[[7, 30]], c2[:, [7, 30]] = 0, 0
    expected = np.zeros((N, N), dtype=bool)
    expected[[7, 30]] = expected[:, [7, 30]] = True
    np.testing.assert_array_equal(uncomputed_zeros(c2), upper(expected))


def test_lags_beyond_the_largest(c2):
    lag = np.abs(np.subtract.outer(np.arange(N), np.arange(N)))
    c2[lag > 40] = 0
    np.testing.assert_array_equal(uncomputed_zeros(c2), upper(lag > 40))


def test_a_block_that_was_left_out(c2):
    c2[3:15, 40:52] = 0
    expected = np.zeros((N, N), dtype=bool)
    expected[3:15, 40:52] = True
    np.testing.assert_array_equal(uncomputed_zeros(c2), expected)


def test_zeros_of_few_photons_are_data():
    rng = np.random.default_rng(2)
    counts = rng.poisson(0.05, (200, N))
    counts[0] += 1  # every frame has a photon
    c2 = (counts.T @ counts) / 200 / np.outer(counts.mean(0), counts.mean(0))
    c2 = np.where(rng.random((N, N)) < 0.5, 0.0, c2)
    assert uncomputed_zeros(np.triu(c2) + np.triu(c2, 1).T) is None


def test_a_single_zero_is_data(c2):
    c2[5, 20] = c2[20, 5] = 0
    assert uncomputed_zeros(c2) is None


def test_they_are_missing_points_of_the_data_and_noted(c2):
    c2[7], c2[:, 7] = 0, 0
    kept = c2.copy()
    data = hf.TwoTimeData(np.stack([c2, c2]), [0.0, 90.0], 0.0054, 0.1)
    np.testing.assert_array_equal(c2, kept)
    assert np.isnan(data.c2[:, 7, 8:]).all()
    assert data.notes == (
        "118 points that are exactly 0 were not computed (of 2 of 2 matrices), and are missing",
    )
    # Data made of these have nothing to note again.
    assert data.select_angles(np.array([0])).notes == data.notes
