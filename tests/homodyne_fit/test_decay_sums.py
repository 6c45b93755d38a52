"""Sums of the decay against a plain double loop, and their derivatives against differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from homodyne_fit.kernel.decay_sums import (
    compiled_for_draws,
    compiled_with_curves,
    constant_sums,
    decay_sums,
    tiles_of,
)
from homodyne_fit.kernel.tiles import tile_chunks

pytestmark = pytest.mark.numerics

N, PHI = 90, np.array([0.0, 40.0, 90.0])
A = np.array([2e-3, 2e-3, 3e-3])


@pytest.fixture(scope="module")
def measurement(measure):
    m = measure(n=N, phi=PHI)
    c2 = m.data.c2.copy()
    c2[1, :, 7] = c2[1, 7, :] = np.nan
    return type(m.data)(c2, m.phi, m.q, m.dt, "with a missing frame")


@pytest.fixture(scope="module")
def tiles(measurement):
    reference = np.array([1.1, 1.0, 1.2])
    (chunk,) = tile_chunks(measurement, 3)
    return tiles_of(chunk, reference, N), reference


def curves(seed):
    rng = np.random.default_rng(seed)
    s = np.concatenate([[0.0], np.cumsum(rng.uniform(1, 20, N - 1))])
    gamma = np.concatenate([[0.0], np.cumsum(rng.uniform(0.01, 0.1, N - 1))])
    return s, gamma, np.array([1.3, 0.9, 0.0]) * rng.uniform(0.5, 2)


def by_loops(measurement, reference, s, gamma, b, power):
    """Sums of f², f and f d over t1 < t2."""
    expected = np.zeros((len(PHI), 3))
    for k in range(len(PHI)):
        for i in range(N):
            for j in range(i + 1, N):
                if np.isfinite(c2 := measurement.c2[k, i, j]):
                    x = b[k] * (gamma[j] - gamma[i])
                    sinc = np.sin(x) / x if x else 1.0
                    f = np.exp(-A[k] * (s[j] - s[i])) * sinc**power
                    expected[k] += f * f, f, f * (c2 - reference[k])
    return expected


def sums(tiles, draws, power=2):
    function = compiled_for_draws(power, "double", has_flow=True)
    s, gamma, b = (np.stack(each) for each in zip(*draws, strict=True))
    with jax.enable_x64(True):
        return np.asarray(function(s, gamma, A, b, tiles))


@pytest.mark.parametrize("power", [2, 4])
def test_they_are_the_sums_of_a_double_loop(measurement, tiles, power):
    tiles, reference = tiles
    draws = [curves(0), curves(1)]
    for found, draw in zip(sums(tiles, draws, power), draws, strict=True):
        expected = by_loops(measurement, reference, *draw, power)
        np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-10)


def test_the_sums_without_f(measurement, tiles):
    tiles, reference = tiles
    upper = np.triu(np.ones((N, N), dtype=bool), 1)
    for k, found in enumerate(constant_sums(tiles)):
        d = measurement.c2[k][upper & np.isfinite(measurement.c2[k])] - reference[k]
        np.testing.assert_allclose(found, [d @ d, d.sum(), len(d)], rtol=1e-10)


@pytest.mark.parametrize("has_flow", [True, False])
def test_their_derivatives(tiles, has_flow):
    tiles, _ = tiles
    rng = np.random.default_rng(5)
    draw, slopes = curves(2), rng.normal(size=(3, 3))
    function = compiled_with_curves(2, "double", has_flow=has_flow)
    s, gamma, b = draw
    if not has_flow:
        draw = s, gamma, b = s, gamma, 0 * b
    with jax.enable_x64(True):
        of_all = function(s, gamma, A, b, tiles)
        np.testing.assert_allclose(of_all.sums, sums(tiles, [draw])[0], rtol=1e-12)
        by_s, by_gamma, _, by_b = of_all.derivatives(s, gamma, A, b, slopes)
        sum_up = decay_sums(2, "double", has_flow=has_flow)
        reverse = jax.jit(
            jax.grad(
                lambda s, gamma, a, b, tiles: jnp.sum(slopes * sum_up(s, gamma, a, b, tiles)),
                argnums=(0, 1, 3),
            )
        )(s, gamma, A, b, tiles)
    found = [np.asarray(each) for each in (by_s, by_gamma, by_b)]
    for one, other in zip(found, reverse, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12 * np.abs(one).max())
    if not has_flow:
        assert not any(np.any(each) for each in found[1:])
        found = found[:1]
    for which, derivative in enumerate(found):
        direction = rng.normal(size=len(draw[which]))
        if which < 2:
            direction = np.cumsum(np.abs(direction))  # S and Γ stay monotonic
        step = 1e-6 * np.abs(draw[which]).max() / np.abs(direction).max()
        ends = []
        for sign in (1, -1):
            moved = list(draw)
            moved[which] = draw[which] + sign * step * direction
            ends.append(np.sum(slopes * sums(tiles, [tuple(moved)])[0]))
        expected = (ends[0] - ends[1]) / (2 * step)
        assert derivative @ direction == pytest.approx(expected, rel=1e-6)


def test_without_flow_the_shear_has_no_effect(tiles):
    tiles, _ = tiles
    s, gamma, b = curves(3)
    function = compiled_for_draws(2, "double", has_flow=False)
    with jax.enable_x64(True):
        found = np.asarray(function(s[None], gamma[None], A, b[None], tiles))
    np.testing.assert_allclose(found, sums(tiles, [(s, gamma, 0 * b)]), rtol=1e-12)
