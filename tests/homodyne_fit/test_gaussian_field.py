"""The field of infinitely many particles against closed forms."""

import numpy as np
import pytest

from homodyne_fit.simulation.gaussian_field import field_root, gaussian_intensities

N = 60
# Of matrix products of N terms in single precision, for numbers of size 1.
ROUNDING = N * np.finfo(np.float32).eps


def covariance(root):
    return root.astype(float) @ root.T.astype(float)


@pytest.mark.parametrize("largest", [0.0, 1.0, 31.9, 32.1, 100.0, 5000.0])
@pytest.mark.parametrize("spread", [0.0, 3.0])
def test_covariance_is_the_closed_average_over_the_gap(largest, spread):
    """|⟨exp(i x y)⟩| = |sin(x/2) / (x/2)|, across one slab and many; frames are not even."""
    time = np.linspace(0, 1, N) ** 1.5
    root = field_root(-largest * time, spread * time)
    lag = np.abs(np.subtract.outer(time, time))
    expected = np.sinc(largest * lag / (2 * np.pi)) * np.exp(-spread * lag / 2)
    np.testing.assert_allclose(covariance(root), expected, rtol=0, atol=ROUNDING)


def test_shear_that_turns_back_restores_the_field():
    """Frames at the same strain are the same, though the flow went on in between."""
    strain = np.abs(np.linspace(-20, 20, N))
    root = field_root(strain, np.zeros(N))
    np.testing.assert_allclose(root, root[::-1], rtol=0, atol=ROUNDING)


def test_the_root_is_symmetric():
    root = field_root(np.linspace(0, 8, N), np.linspace(0, 2, N))
    np.testing.assert_allclose(root, root.T, rtol=0, atol=ROUNDING)


def test_what_does_not_move_has_one_intensity():
    """A covariance of rank one."""
    root = field_root(np.zeros(N), np.zeros(N))
    intensity = gaussian_intensities(np.random.default_rng(0), root, np.ones(1, np.float32), 50)
    np.testing.assert_allclose(intensity, intensity[:1] * np.ones((N, 1)), rtol=10 * ROUNDING)
    assert np.ptp(intensity[0]) > 1


@pytest.mark.parametrize("shares", [(1.0,), (0.5, 0.5), (0.7, 0.3)])
def test_moments_of_the_intensity(shares):
    """⟨I⟩ = 1 and ⟨I²⟩ = 1 + Σw²; ⟨I³⟩ = 1 + 3 Σw² + 2 Σw³, those of exponential variables.

    5 standard errors, of independent pixels.
    """
    w = np.array(shares, np.float32)
    root = field_root(np.linspace(0, 8, 3), np.linspace(0, 1, 3))
    intensity = gaussian_intensities(np.random.default_rng(1), root, w, 200_000).astype(float)
    squares, cubes = float(np.sum(w**2)), float(np.sum(w**3))
    for power, expected in ((1, 1.0), (2, 1 + squares), (3, 1 + 3 * squares + 2 * cubes)):
        values = intensity**power
        error = values.std(axis=1) / np.sqrt(values.shape[1])
        assert np.all(np.abs(values.mean(axis=1) - expected) < 5 * error)
