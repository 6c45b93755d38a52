"""Weights of points that share their noise, against a likelihood and generalised least squares."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy.optimize import root

from homodyne_fit.noise.point_covariance import shared_frame, speckle_covariance
from homodyne_fit.noise.speckle import score_covariances
from homodyne_fit.noise.weights import weight_matrices

pytestmark = pytest.mark.numerics

BETA, X = 1 / 3, 1 / 2


def decay(n, rate=0.35):
    """f and its derivative by the rate, (n, n)."""
    lag = np.abs(np.subtract.outer(np.arange(n), np.arange(n)))
    return np.exp(-rate * lag), -lag * np.exp(-rate * lag)


def columns_of(n, rate=0.35):
    """Derivatives of c2 by the rate, contrast and offset, and f."""
    f, slope = decay(n, rate)
    return np.stack([BETA * slope, f, np.ones((n, n))]), f


def with_unknown_diagonal(columns, covariance):
    """Z by solving for the diagonal of each column, frame by frame."""
    inverse = np.linalg.inv(covariance)
    z = []
    for column in columns:
        raw = inverse @ column @ inverse
        alpha = np.linalg.solve(inverse**2, np.diag(raw))
        z.append(raw - inverse @ np.diag(alpha) @ inverse)
    return np.stack(z)


def test_weights_are_the_score_of_a_likelihood():
    """That of Gaussian intensities, at its best over the diagonal of their covariance."""
    n, rate, small = 7, 0.35, 1e-4
    columns, f = columns_of(n, rate)
    off = 1 - np.eye(n)
    noise = np.random.default_rng(0).normal(size=(n, n))
    noise += noise.T
    sample = BETA * f + X * np.eye(n) + small * noise

    def profile(rate):
        """Log likelihood of one draw, the diagonal at its best."""
        shape = BETA * decay(n, rate)[0] * off

        def excess(diagonal):
            inverse = np.linalg.inv(shape + np.diag(diagonal))
            return np.diag(inverse @ sample @ inverse - inverse)

        covariance = shape + np.diag(root(excess, np.diag(sample), tol=1e-13).x)
        inverse = np.linalg.inv(covariance)
        return -0.5 * (np.linalg.slogdet(covariance)[1] + np.trace(inverse @ sample))

    step = 1e-4
    slope = (profile(rate + step) - profile(rate - step)) / (2 * step)
    z = weight_matrices(columns, f, np.ones(n), BETA, X)
    assert slope == pytest.approx(small * np.sum(np.triu(z[0] * noise, 1)), rel=0.01)


@given(
    sizes=st.lists(st.integers(1, 4), min_size=2, max_size=5),
    x=st.sampled_from([0.05, 1.0, 20.0]),
)
def test_weights_of_blocks_are_those_of_their_frames(sizes, x):
    """Where f is the same for all pairs of frames of two blocks."""
    blocks, n = len(sizes), sum(sizes)
    columns, f = columns_of(blocks)
    # Within a block of several frames f is below 1 already.
    f = f * np.where(np.eye(blocks) * (np.array(sizes) > 1), 0.9, 1.0)
    at = np.repeat(np.arange(blocks), sizes)
    frames = np.where(np.eye(n), 1.0, f[np.ix_(at, at)])
    expected = with_unknown_diagonal(columns[:, at][:, :, at], BETA * frames + x * np.eye(n))
    z = weight_matrices(columns, f, np.array(sizes, dtype=float), BETA, x)
    pairs = ~np.eye(n, dtype=bool)
    scale = np.abs(expected[:, pairs]).max()
    assert_allclose(z[:, at][:, :, at][:, pairs], expected[:, pairs], rtol=1e-8, atol=1e-9 * scale)


def test_frames_without_points_leave_the_others_alone():
    columns, f = columns_of(9)
    frames = np.ones(9)
    frames[[0, 4]] = 0.0
    seen = frames > 0
    part = np.ix_(seen, seen)
    z = weight_matrices(columns, f, frames, BETA, X)
    alone = weight_matrices(columns[:, *part], f[part], np.ones(7), BETA, X)
    assert_allclose(z[:, *part], alone)
    assert not np.any(z[:, ~seen])
    assert not np.any(z[:, :, ~seen])


def point_covariance(g, x):
    """Of all points i < j of one pixel, and the points."""
    points = list(itertools.combinations(range(len(g)), 2))
    covariance = np.empty((len(points),) * 2)
    for a, (i, j) in enumerate(points):
        for b, (k, m) in enumerate(points):
            pairs = g[i, j], g[k, m], g[i, k], g[j, m], g[i, m], g[j, k]
            value = speckle_covariance(BETA, *pairs)
            for s in {i, j} & {k, m}:
                (p,), (q,) = {i, j} - {s}, {k, m} - {s}
                value += x * shared_frame(BETA, g[s, p], g[s, q], g[p, q])
            covariance[a, b] = value + x**2 * (1 + BETA * g[i, j] ** 2) * (a == b)
    return covariance, points


@pytest.mark.parametrize("x", [0.2, 2.0, 10.0])
def test_errors_are_those_of_generalised_least_squares(x):
    """Two angles of 12 frames that share contrast and offset, with rates that differ."""
    n, information, ours, plain, plain_score, score = 12, 0, 0, 0, 0, 0
    for rate in (0.2, 0.6):
        columns, f = columns_of(n, rate)
        covariance, points = point_covariance(np.sqrt(f), x)
        i, j = np.array(points).T
        d = columns[:, i, j]
        information = information + d @ np.linalg.solve(covariance, d.T)
        z = weight_matrices(columns, f, np.ones(n), BETA, x) * (1 - np.eye(n))
        w = z[:, i, j]
        ours = ours + w @ d.T
        plain = plain + d @ d.T
        exact = w @ covariance @ w.T
        products = (w * (1 + BETA * f[i, j])) @ w.T
        v = score_covariances(z, f, np.sqrt(f), np.ones(n), BETA, products, extrapolated=False)
        assert_allclose(np.einsum("c,cab->ab", [1, x, x * x], v), exact, rtol=1e-9)
        score, plain_score = score + exact, plain_score + d @ covariance @ d.T
    best, weighted, unweighted = (
        np.sqrt(np.diag(each))
        for each in (
            np.linalg.inv(information),
            np.linalg.inv(ours) @ score @ np.linalg.inv(ours).T,
            np.linalg.inv(plain) @ plain_score @ np.linalg.inv(plain),
        )
    )
    assert_allclose(ours, ours.T, rtol=1e-10)
    assert np.all(weighted >= best * (1 - 1e-10))
    assert_allclose(weighted, best, rtol=0.03)
    if x == 0.2:
        assert weighted[0] < 0.8 * unweighted[0]
