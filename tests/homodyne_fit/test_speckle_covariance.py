"""The closed form of the score's covariance against exact moments of thermal light."""

import functools
import itertools
import math

import numpy as np
import pytest
from numpy.testing import assert_allclose

from homodyne_fit.kernel.moments import AngleFactors
from homodyne_fit.model.rates import LAMINAR_FLOW, curves
from homodyne_fit.noise.block_model import BlockModel
from homodyne_fit.noise.blocks import (
    BLOCK_LENGTH,
    Blocks,
    cut_blocks,
)
from homodyne_fit.noise.fields import field_and_decay, fields_of_tile
from homodyne_fit.noise.point_covariance import (
    point_variances,
    shared_frame,
    speckle_covariance,
)
from homodyne_fit.noise.speckle import score_covariances

pytestmark = pytest.mark.numerics

STIRLING = {
    0: {0: 1},
    1: {1: 1},
    2: {1: 1, 2: 1},
    3: {1: 1, 2: 3, 3: 1},
    4: {1: 1, 2: 7, 3: 6, 4: 1},
}


class Photons:
    """Exact moments of the counts of one pixel, over its mean, of modes = 1/β equal modes.

    E[Π I] is an α-permanent of the field's correlation: the sum over permutations of
    modes^(cycles - factors) Π g. Falling factorials of Poisson counts have the moments of the
    intensity.
    """

    def __init__(self, g, modes, photons):
        self.g, self.modes, self.photons = g, modes, photons
        self.of_intensity = functools.cache(self._of_intensity)

    def _of_intensity(self, frames):
        total = 0.0
        for permutation in itertools.permutations(range(len(frames))):
            product = math.prod(self.g[frames[i], frames[p]] for i, p in enumerate(permutation))
            seen, cycles = set(), 0
            for i in range(len(frames)):
                cycles += i not in seen
                while i not in seen:
                    seen.add(i)
                    i = permutation[i]
            total += self.modes ** (cycles - len(frames)) * product
        return total

    def of_counts(self, frames):
        """E[Π n_i / κ] over frames, which may repeat."""
        times = [(i, frames.count(i)) for i in sorted(set(frames))]
        total = 0.0
        for orders in itertools.product(*(STIRLING[count].items() for _, count in times)):
            falling = tuple(
                i for (i, _), (order, _) in zip(times, orders, strict=True) for _ in range(order)
            )
            factor = math.prod(weight for _, weight in orders)
            total += (
                factor * self.photons ** (len(falling) - len(frames)) * self.of_intensity(falling)
            )
        return total

    def of_fluctuations(self, frames):
        """E[Π δ_i], δ = n/κ − 1."""
        return sum(
            (-1) ** (len(frames) - size) * self.of_counts(tuple(sorted(subset)))
            for size in range(len(frames) + 1)
            for subset in itertools.combinations(frames, size)
        )

    def covariance(self, ij, kl):
        """Of ψ at two points, the normalisation by the frame means included."""
        total = 0.0
        for left, right in itertools.product(self._terms(*ij), self._terms(*kl)):
            moment = self.of_fluctuations(tuple(sorted(left[1] + right[1])))
            mean = self.of_fluctuations(left[1]) * self.of_fluctuations(right[1])
            total += left[0] * right[0] * (moment - mean)
        return total

    def _terms(self, i, j):
        f = self.g[i, j] ** 2 / self.modes
        return (1.0, (i, j)), (-f, (i,)), (-f, (j,))


def field(n, seed=1):
    """A correlation of a field that changes its sign, (n, n)."""
    t = np.arange(n) * 0.9 + np.random.default_rng(seed).uniform(0, 0.3, n)
    lag = np.abs(np.subtract.outer(t, t))
    return np.exp(-0.15 * lag) * np.sinc(0.35 * lag)


@pytest.mark.parametrize("modes", [1.0, 3.0, 4.7])
def test_covariance_of_two_points(modes):
    g, x = field(5), 1 / 0.3
    exact = Photons(g, modes, 1 / x)
    points = list(itertools.combinations(range(5), 2))
    for (i, j), (k, l) in itertools.product(points, points):
        pairs = [g[i, j], g[k, l], g[i, k], g[j, l], g[i, l], g[j, k]]
        expected = speckle_covariance(1 / modes, *pairs)
        for s in {i, j} & {k, l}:
            (a,), (b,) = {i, j} - {s}, {k, l} - {s}
            expected += x * shared_frame(1 / modes, g[s, a], g[s, b], g[a, b])
        if (i, j) == (k, l):
            expected += x**2 * (1 + g[i, j] ** 2 / modes)
        assert_allclose(expected, exact.covariance((i, j), (k, l)), rtol=1e-10, atol=1e-12)


def test_variance_of_a_point():
    g, x, modes = field(4), 1 / 0.3, 3.0
    exact = Photons(g, modes, 1 / x)
    i, j = np.triu_indices(4, 1)
    terms = point_variances(np.array(1 / modes), g[i, j] ** 2)
    expected = [exact.covariance(pair, pair) for pair in zip(i.tolist(), j.tolist(), strict=True)]
    assert_allclose(terms.T @ [1, x, x * x], expected, rtol=1e-10)


@pytest.mark.parametrize("missing", [(), ((0, 3), (2, 4)), tuple((1, j) for j in range(2, 7))])
def test_score_covariance_is_the_sum_over_all_pairs_of_points(missing):
    n, modes, x = 7, 3.0, 1 / 0.4
    g, rng = field(n), np.random.default_rng(2)
    exact = Photons(g, modes, 1 / x)
    points = [p for p in itertools.combinations(range(n), 2) if p not in missing]
    d = np.zeros((3, n, n))
    for i, j in points:
        d[:, i, j] = rng.normal(size=3)
    derivatives = np.array([d[:, i, j] for i, j in points])
    covariance = np.array([[exact.covariance(p, q) for q in points] for p in points])
    expected = derivatives.T @ covariance @ derivatives
    f = np.array([g[p] ** 2 for p in points])
    products = np.einsum("pa,p,pb->ab", derivatives, 1 + f / modes, derivatives)
    w = d + d.transpose(0, 2, 1)
    v = score_covariances(w, g**2, g, np.ones(n), 1 / modes, products)
    assert_allclose(
        v[0] + x * v[1] + x**2 * v[2], expected, rtol=1e-10, atol=1e-10 * expected.max()
    )


N_FRAMES, DT = 120, 0.1
FACTORS = AngleFactors(
    np.full(3, 0.0054**2),
    0.5 * 0.0054 * 2e6 * np.cos(np.deg2rad([0.0, 40.0, 85.0])),
    0.5 * 0.0054 * 2e6 * np.sin(np.deg2rad([0.0, 40.0, 85.0])) * np.pi / 180,
    np.ones(3),
)
PHYSICS = np.array([9e3, 0.1, 500.0, 1.5e-4, -0.1, 2e-5, 0.0])


def model_on(blocks, angle):
    """f and g of one angle on blocks, and derivatives by D0, γ̇, contrast and offset."""
    integrals = curves(LAMINAR_FLOW, PHYSICS, DT, N_FRAMES)
    searched = np.zeros(7, dtype=bool)
    searched[[0, 3]] = True
    model = BlockModel.of(integrals, FACTORS, 2, blocks).at(angle)
    return *model.field(), model.columns(0.3, searched)


def standard_errors(blocks, angle):
    """Errors of D0, γ̇, contrast and offset of one angle, at 0.5 photons."""
    single = equal_blocks(1)
    _, _, columns = model_on(single, angle)
    units = np.sqrt(np.einsum("aij,aij,ij->a", columns, columns, single.pairs))
    weights = single.pairs, single.pairs * (1 + 0.3 * columns[-2])
    hessian, shot = (
        0.5 * np.einsum("aij,bij,ij->ab", columns, columns, weight) / np.outer(units, units)
        for weight in weights
    )
    f, g, columns = model_on(blocks, angle)
    w = columns / units[:, None, None] * blocks.pairs
    v = score_covariances(w, f, g, blocks.sizes.astype(float), 0.3, shot)
    inverse = np.linalg.inv(hessian)
    meat = v[0] + v[1] / 0.5 + v[2] / 0.25
    return np.sqrt(np.diag(inverse @ meat @ inverse)) / units


def equal_blocks(size):
    starts = np.arange(0, N_FRAMES, size)
    return Blocks(starts, np.diff([*starts, N_FRAMES]))


@pytest.mark.parametrize("angle", [0, 1, 2])
def test_short_blocks_change_errors_by_two_percent(angle):
    # A sum over blocks is off by the square of their length in decays of f, here 0.15.
    frames, blocks = (standard_errors(equal_blocks(size), angle) for size in (1, 4))
    assert_allclose(blocks, frames, rtol=0.02)


def test_blocks_are_short_against_the_decay():
    integrals = curves(LAMINAR_FLOW, PHYSICS, DT, 1000)
    blocks = cut_blocks(integrals, FACTORS)
    assert blocks.sizes.sum() == 1000
    assert np.all(np.diff(blocks.starts) > 0)
    ends = blocks.starts + blocks.sizes - 1
    s, gamma = integrals.transport, integrals.shear
    for a, b in zip(FACTORS.transport, FACTORS.shear, strict=True):
        transport, phase = (
            a * (s[ends] - s[blocks.starts]),
            b * (gamma[ends] - gamma[blocks.starts]),
        )
        assert np.all(field_and_decay(transport, phase, 2)[1] > np.exp(-BLOCK_LENGTH - 0.01))


def test_age_grows_by_half_within_a_block_at_most():
    integrals = curves(LAMINAR_FLOW, PHYSICS, DT, 1000)
    blocks = cut_blocks(integrals, FACTORS, fewest=1)
    first, last = blocks.starts, blocks.starts + blocks.sizes - 1
    assert np.all((last + 1) / (first + 1) <= 1.5)
    assert list(blocks.starts[:4]) == [0, 1, 3, 6]


def test_errors_on_blocks_that_were_cut_are_those_on_frames():
    n, physics = 480, np.array([2e4, -0.6, 250.0, 6e-4, 0.3, 1e-4, 0.0])
    integrals = curves(LAMINAR_FLOW, physics, DT, n)
    searched = np.array([True, True, True, True, True, False, False])

    def errors(blocks):
        model = BlockModel.of(integrals, FACTORS, 2, blocks).at(0)
        columns, (f, g) = model.columns(0.3, searched), model.field()
        w = columns / units[:, None, None] * blocks.pairs
        v = score_covariances(w, f, g, blocks.sizes.astype(float), 0.3, shot)
        meat = v[0] + v[1] / 0.5 + v[2] / 0.25
        return np.sqrt(np.diag(inverse @ meat @ inverse))

    frames = Blocks(np.arange(n), np.ones(n, dtype=np.int64))
    columns = BlockModel.of(integrals, FACTORS, 2, frames).at(0).columns(0.3, searched)
    units = np.sqrt(np.einsum("aij,aij,ij->a", columns, columns, frames.pairs))
    hessian, shot = (
        0.5 * np.einsum("aij,bij,ij->ab", columns, columns, weight) / np.outer(units, units)
        for weight in (frames.pairs, frames.pairs * (1 + 0.3 * columns[-2]))
    )
    inverse = np.linalg.inv(hessian)
    short = cut_blocks(integrals, FACTORS)
    assert_allclose(errors(short), errors(frames), rtol=0.03)


def test_derivatives_on_blocks_of_one_frame_are_those_of_the_model():
    integrals = curves(LAMINAR_FLOW, PHYSICS, DT, 20)
    blocks = Blocks(np.arange(20), np.ones(20, dtype=np.int64))
    phi0 = 30.0

    def model(parameters):
        moved = curves(LAMINAR_FLOW, parameters, DT, 20)
        s, gamma = moved.transport, moved.shear
        b = 0.5 * 0.0054 * 2e6 * np.cos(np.deg2rad(parameters[-1]))
        x = b * np.abs(np.subtract.outer(gamma, gamma))
        f = np.exp(-(0.0054**2) * np.abs(np.subtract.outer(s, s)))
        return f * np.where(x > 0, np.sin(x) / np.where(x > 0, x, 1.0), 1.0) ** 2

    parameters = np.append(PHYSICS[:-1], phi0)
    angle = np.deg2rad(phi0)
    shear = np.array([0.5 * 0.0054 * 2e6 * np.cos(angle)])
    direction = np.array([-0.5 * 0.0054 * 2e6 * np.sin(angle) * np.pi / 180])
    factors = AngleFactors(np.array([0.0054**2]), shear, direction, np.ones(1))
    on_blocks = BlockModel.of(integrals, factors, 2, blocks).at(0)
    f, g = on_blocks.field()
    columns = on_blocks.columns(0.3, np.ones(7, dtype=bool))
    assert_allclose(f, model(parameters), atol=1e-12)
    assert_allclose(g**2, f, atol=1e-12)
    for i, value in enumerate(parameters):
        step = 1e-5 * abs(value)
        up, down = parameters.copy(), parameters.copy()
        up[i] += step
        down[i] -= step
        difference = 0.3 * (model(up) - model(down)) / (2 * step)
        assert_allclose(columns[i], difference, atol=1e-6 * np.abs(difference).max())


@pytest.mark.parametrize("sinc_power", [2, 4])
@pytest.mark.parametrize("start", [0, 5, 60])
def test_fields_of_a_tile_are_those_of_each_pair_of_frames(sinc_power, start):
    integrals = curves(LAMINAR_FLOW, PHYSICS, DT, N_FRAMES)
    rows, cols = np.arange(0, 64), np.arange(start, start + 64)
    fields = fields_of_tile(integrals, FACTORS, sinc_power, rows, cols)
    i, j = np.meshgrid(rows, np.minimum(cols, N_FRAMES - 1), indexing="ij")
    s, gamma = integrals.transport, integrals.shear
    for k, (a, b) in enumerate(zip(FACTORS.transport, FACTORS.shear, strict=True)):
        x = b * (gamma[j] - gamma[i])
        expected = np.exp(-a * (s[j] - s[i]) / 2) * np.sinc(x / np.pi) ** (sinc_power // 2)
        later = j >= i
        assert_allclose(fields[k][later], expected[later], rtol=1e-11, atol=1e-13)
