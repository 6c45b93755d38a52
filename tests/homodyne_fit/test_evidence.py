r"""Spreads learned by evidence, against the marginal likelihood of all points.

With the physics linearised, :math:`y = X b + Z u + \epsilon` with :math:`b` (physics, mean
contrast, mean offset) of flat prior, :math:`u_c \sim N(0, \tau_c^2)`,
:math:`u_o \sim N(0, \tau_o^2)`. Then y has the covariance :math:`V = \sigma^2 + Z D Z^T`, and
integrating over b gives the restricted likelihood (D. Harville, *Biometrika* 61, 383, 1974).
"""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.stats import chi2

from homodyne_fit.fitting.layers.evidence import fit_scaling_prior
from homodyne_fit.fitting.unknown_spreads import root_with_unknown_spreads
from homodyne_fit.kernel.elimination import eliminate
from homodyne_fit.model.scaling import LEAST_MEAN, TYPICAL_SPREAD, scaling_map

pytestmark = pytest.mark.numerics

P, N, SIGMA = 2, 25, 0.05
WIDE = (-100.0, 100.0)


class Problem:
    """Columns [∂f/∂θ, f, 1, c2] at N points of K angles, and their dense matrices."""

    def __init__(self, seed, n_angles, tau_c, tau_o, contrast=0.3, physics=None):
        rng = np.random.default_rng(seed)
        self.k, self.physics = n_angles, np.ones(P, bool) if physics is None else physics
        self.x = rng.normal(size=(n_angles, N, P + 3))
        self.x[..., P] = rng.uniform(0, 1, (n_angles, N))
        self.x[..., P + 1] = 1.0
        c = contrast + tau_c * rng.normal(size=(n_angles, 1))
        o = 1.0 + tau_o * rng.normal(size=(n_angles, 1))
        noise = SIGMA * rng.normal(size=(n_angles, N))
        self.x[..., P + 2] = o + c * self.x[..., P] + noise

    def joint(self, z=None, tau=None):
        moments = np.einsum("kni,knj->kij", self.x, self.x)
        phi = np.arange(self.k) * 10.0
        scaling = scaling_map("individual", phi=phi, contrast=WIDE, offset=WIDE)
        if tau is not None:
            scaling = scaling.penalised(*(SIGMA / np.array(tau)) ** 2, learned=True)
        return eliminate(moments, np.zeros(self.k), scaling, z=z)

    def errors(self, joint, null=None):
        """Of physics, contrasts and offsets, with the spreads unknown."""
        null = np.zeros((len(joint.equations.gradient), 0)) if null is None else null
        of_points = SIGMA**2 * joint.score_covariance
        root = root_with_unknown_spreads(joint, self.physics, null, of_points, SIGMA**2)
        return np.linalg.norm(root, axis=1)

    def dense(self, contrast):
        """y (n,), X (n, p + 2), Z_c and Z_o (n, K), linearised at these contrasts."""
        k = self.k
        jacobian = self.x[:, :, :P][..., self.physics] * contrast[:, None, None]
        z_c, z_o = np.zeros((k, N, k)), np.zeros((k, N, k))
        for i in range(k):
            z_c[i, :, i], z_o[i, :, i] = self.x[i, :, P], 1.0
        z_c, z_o = z_c.reshape(-1, k), z_o.reshape(-1, k)
        fixed = [jacobian.reshape(k * N, -1), z_c.sum(axis=1)[:, None], z_o.sum(axis=1)[:, None]]
        return self.x[..., P + 2].ravel(), np.hstack(fixed), z_c, z_o

    def learn(self, joint=None):
        return fit_scaling_prior(joint or self.joint(), self.physics, SIGMA**2)

    def learned_tau(self, joint):
        spreads = self.learn(joint)
        return spreads.contrast, spreads.offset


def restricted_log_likelihood(log_tau, y, x, z_c, z_o):
    tau_c, tau_o = np.exp(log_tau)
    v = SIGMA**2 * np.eye(len(y)) + tau_c**2 * z_c @ z_c.T + tau_o**2 * z_o @ z_o.T
    to_x = np.linalg.solve(v, x)
    information = x.T @ to_x
    residual = y - x @ np.linalg.solve(information, to_x.T @ y)
    return -0.5 * (
        np.linalg.slogdet(v)[1]
        + np.linalg.slogdet(information)[1]
        + residual @ np.linalg.solve(v, residual)
    )


def posterior(problem, contrast, tau):
    """Mean and covariance of the contrasts and offsets (2K,), from all points and the prior."""
    y, x, z_c, z_o = problem.dense(contrast)
    k, n_physics = problem.k, x.shape[1] - 2
    centre = np.eye(k) - 1.0 / k
    a = np.hstack([x[:, :n_physics], z_c, z_o]) / SIGMA
    prior = np.zeros((2 * k, a.shape[1]))
    prior[:k, n_physics : n_physics + k] = centre / tau[0]
    prior[k:, n_physics + k :] = centre / tau[1]
    rows, target = np.vstack([a, prior]), np.concatenate([y / SIGMA, np.zeros(2 * k)])
    covariance = np.linalg.inv(rows.T @ rows)
    return (covariance @ rows.T @ target)[n_physics:], covariance[n_physics:, n_physics:]


@pytest.mark.parametrize("fixed", [None, 0])
@pytest.mark.parametrize(
    ("tau_c", "tau_o"), [(0.05, 0.03), (0.3, 0.02), (0.0, 0.05), (0.05, 0.0), (0.02, 0.01)]
)
def test_the_spreads_maximise_the_restricted_likelihood_of_all_points(tau_c, tau_o, fixed):
    physics = np.arange(P) != fixed
    problem = Problem(int(1000 * tau_c + 1e5 * tau_o), 6, tau_c, tau_o, physics=physics)
    joint = problem.joint()
    learned = problem.learn(joint)
    y, x, z_c, z_o = problem.dense(joint.z[: problem.k])
    # In the span of all columns; outside it V is σ² whatever the spreads.
    span = np.linalg.qr(np.hstack([x[:, :-2], z_c, z_o]))[0].T
    dense = [span @ part for part in (y, x, z_c, z_o)]

    def minus_log(log_tau):
        return -restricted_log_likelihood(log_tau, *dense)

    best = min(
        (
            minimize(minus_log, np.log(start), method="Nelder-Mead", options={"xatol": 1e-7})
            for start in ((0.1, 0.1), (0.03, 1e-3), (1e-3, 0.03))
        ),
        key=lambda found: found.fun,
    )
    at_learned = np.log([learned.contrast, learned.offset])
    assert minus_log(at_learned) == pytest.approx(best.fun, abs=1e-5)
    for value, expected in zip((learned.contrast, learned.offset), np.exp(best.x), strict=True):
        # Below a tenth of what the data resolve, all spreads are as good as none.
        assert value == pytest.approx(expected, rel=1e-3, abs=1e-3)
    narrowest = np.log([1e-5 * abs(np.mean(joint.z[:6])), 1e-5 * np.mean(joint.z[6:])])
    gain = minus_log(narrowest) - minus_log(at_learned)
    assert learned.log_evidence == pytest.approx(gain, abs=1e-4 * max(1.0, gain))


@pytest.mark.parametrize("seed", range(6))
def test_expectation_maximisation_stands_still_at_the_learned_spreads(seed):
    problem = Problem(seed, 7, 0.06, 0.04)
    joint = problem.joint()
    learned = problem.learn(joint)
    k, tau = problem.k, np.array([learned.contrast, learned.offset])
    mean, covariance = posterior(problem, joint.z[:k], tau)
    for i, part in enumerate((slice(0, k), slice(k, None))):
        squares = np.sum((mean[part] - mean[part].mean()) ** 2)
        spread = covariance[part, part]
        expected = squares + np.trace(spread) - np.sum(spread) / k
        assert (k - 1) * tau[i] ** 2 == pytest.approx(expected, rel=1e-3)


def test_the_distance_is_that_to_the_shrunk_values_in_standard_errors():
    problem = Problem(4, 5, 0.05, 0.02)
    joint = problem.joint()
    learned = problem.learn(joint)
    k, tau = problem.k, np.array([learned.contrast, learned.offset])
    y, x, z_c, z_o = problem.dense(joint.z[:k])
    centre = (np.eye(k) - 1.0 / k) / np.repeat(tau, k).reshape(2, k, 1)
    prior = np.zeros((2 * k, P + 2 * k))
    prior[:k, P : P + k], prior[k:, P + k :] = centre
    rows = np.vstack([np.hstack([x[:, :P], z_c, z_o]) / SIGMA, prior])
    here = np.concatenate([np.zeros(P), joint.z])
    target = np.concatenate([y / SIGMA, np.zeros(2 * k)])
    step = rows @ (np.linalg.lstsq(rows, target)[0] - here)
    assert learned.distance == pytest.approx(np.linalg.norm(step), rel=1e-4)


def test_angles_that_do_not_differ_have_no_spread_on_most_seeds():
    learned = [Problem(seed, 8, 0.0, 0.0).learn() for seed in range(40)]
    gains = np.array([spreads.log_evidence for spreads in learned])
    assert np.all(gains >= -1e-6)
    # Half the time the likelihood has its maximum at zero; beyond, twice its gain is like χ².
    for narrow in (
        [s.contrast < 1e-3 * 0.3 for s in learned],
        [s.offset < 1e-3 * 1.0 for s in learned],
    ):
        assert np.mean(narrow) > 0.25
    assert np.median(gains) < 0.5
    assert np.mean(gains > 2.0) < 0.15


@settings(max_examples=15)
@given(st.integers(0, 2**20), st.permutations(range(5)))
def test_the_order_of_the_angles_does_not_matter(seed, order):
    problem = Problem(seed, 5, 0.05, 0.03)
    base = problem.learn()
    problem.x = problem.x[list(order)]
    permuted = problem.learn()
    assert permuted.log_evidence == pytest.approx(base.log_evidence, abs=1e-5)
    # As close as the maximum is told from its surroundings.
    assert permuted.contrast == pytest.approx(base.contrast, rel=1e-2, abs=1e-4)
    assert permuted.offset == pytest.approx(base.offset, rel=1e-2, abs=1e-4)


@settings(max_examples=15)
@given(st.integers(0, 2**20), st.floats(0.1, 10.0))
def test_a_spread_follows_the_scale_of_the_contrast(seed, factor):
    """contrast · f is the same if f shrinks as the contrast grows."""
    problem = Problem(seed, 6, 0.06, 0.03)
    base = problem.learn()
    problem.x[..., : P + 1] /= factor
    scaled = problem.learn()
    assert scaled.log_evidence == pytest.approx(base.log_evidence, abs=1e-4)
    assert scaled.contrast / factor == pytest.approx(base.contrast, rel=1e-2, abs=1e-3)
    assert scaled.offset == pytest.approx(base.offset, rel=1e-2, abs=1e-3)


@pytest.mark.parametrize("seed", range(3))
def test_a_vast_spread_is_found_by_the_formula_of_a_sample(seed):
    """Where the points leave no doubt about each angle, τ² is the sample variance."""
    problem = Problem(seed, 12, 0.5, 0.3, contrast=2.0)
    joint = problem.joint()
    learned = problem.learn(joint)
    assert learned.contrast == pytest.approx(np.std(joint.z[:12], ddof=1), rel=0.02)
    assert learned.offset == pytest.approx(np.std(joint.z[12:], ddof=1), rel=0.02)


# Errors with the spreads unknown.


def at_minimum(joint):
    """The quadratic model at its minimum, and its inverse Hessian."""
    equations = joint.equations
    inverse = np.linalg.inv(equations.hessian)
    z = joint.z - (inverse @ equations.gradient)[P:]
    equations = replace(equations, gradient=np.zeros_like(equations.gradient))
    return replace(joint, z=z, equations=equations), inverse


@pytest.mark.parametrize(
    ("seed", "n_angles", "tau_c", "tau_o"),
    [(6, 2, 0.05, 0.02), (1, 3, 0.01, 0.01), (3, 6, 0.0, 0.0), (5, 8, 0.05, 0.03)],
)
def test_errors_are_the_mean_square_over_all_spreads(seed, n_angles, tau_c, tau_o):
    """A fine grid in both spreads, and all points at each."""
    problem = Problem(seed, n_angles, tau_c, tau_o)
    joint = problem.joint()
    linear_at = joint.z[:n_angles]
    joint, _ = at_minimum(problem.joint(joint.z, problem.learned_tau(joint)))
    y, x, z_c, z_o = problem.dense(linear_at)
    span = np.linalg.qr(np.hstack([x[:, :-2], z_c, z_o]))[0].T
    dense = [span @ part for part in (y, x, z_c, z_o)]
    means = np.maximum(np.abs(joint.z.reshape(2, -1).mean(axis=1)), LEAST_MEAN)
    typical = np.array(TYPICAL_SPREAD) * means
    axes = np.log(typical)[:, None] + np.linspace(-7, 3.5, 36)
    nodes = np.exp(np.stack(np.meshgrid(*axes), axis=-1).reshape(-1, 2))
    logs = np.array(
        [
            restricted_log_likelihood(np.log(tau), *dense)
            # Half-Cauchy by τ, and dτ = τ d ln τ.
            + np.sum(np.log(tau) - np.log1p((tau / typical) ** 2))
            for tau in nodes
        ]
    )
    weights = np.exp(logs - logs.max())
    mean_square = 0.0
    for weight, tau in zip(weights / weights.sum(), nodes, strict=True):
        if weight > 1e-6:
            mean, covariance = posterior(problem, linear_at, tau)
            mean_square += weight * (np.diag(covariance) + (mean - joint.z) ** 2)
    np.testing.assert_allclose(problem.errors(joint)[P:], np.sqrt(mean_square), rtol=0.01)


def test_errors_hold_where_angles_differ_by_the_error_of_one():
    """Deviations from true contrasts, in errors with the spreads unknown, and known."""
    runs, k, of_one = 80, 6, SIGMA / np.sqrt(N / 12)
    unknown, known = [], []
    for seed in range(runs):
        rng = np.random.default_rng(seed)
        problem = Problem(seed, k, 0.0, 0.0)
        c, o = (mean + of_one * rng.normal(size=(k, 1)) for mean in (3.0, 1.0))
        problem.x[..., P + 2] = o + c * problem.x[..., P] + SIGMA * rng.normal(size=(k, N))
        truth = np.concatenate([c, o]).ravel()
        # Linear around the truth, so that there is no other reason for a deviation.
        tau = problem.learned_tau(problem.joint(truth))
        joint, inverse = at_minimum(problem.joint(truth, tau))
        deviations = (joint.z - truth)[:k]
        unknown.append(deviations / problem.errors(joint)[P:][:k])
        known.append(deviations / (SIGMA * np.sqrt(np.diag(inverse)[P:]))[:k])
    rms, rms_known = (np.sqrt(np.mean(np.square(each))) for each in (unknown, known))
    # How far the rms of so many independent deviations scatters, and what is asked for beyond.
    low, high = np.sqrt(chi2.ppf([0.001, 0.999], runs * (k - 1)) / (runs * (k - 1)))
    assert 0.9 * low < rms < 1.15 * high
    assert rms_known > 1.15 * rms


def test_no_spread_at_all_is_found_but_not_taken_for_certain():
    """Errors are between those of shared and of free contrasts."""
    found = 0
    for seed in range(30):
        problem = Problem(seed, 4, 0.0, 0.0, contrast=3.0)
        joint = problem.joint()
        tau = problem.learned_tau(joint)
        if tau[0] > 1e-3 or tau[1] > 1e-3:
            continue
        found += 1
        shared, inverse = at_minimum(problem.joint(joint.z, tau))
        none, free = (np.diag(each) for each in (inverse, at_minimum(joint)[1]))
        errors = problem.errors(shared)[P:] / SIGMA
        assert np.all(errors**2 > 1.1 * none[P:])
        assert np.mean(errors**2) < np.mean(free[P:])
    assert found > 2


def test_a_direction_that_is_left_open_changes_no_other_error():
    problem = Problem(2, 5, 0.03, 0.02)
    joint = problem.joint()
    tau = problem.learned_tau(joint)
    expected = problem.errors(problem.joint(joint.z, tau))
    # A third parameter, which does what the first one does.
    problem.x = np.concatenate([problem.x[..., :1], problem.x], axis=-1)
    problem.physics = np.ones(P + 1, bool)
    null = np.zeros((P + 1 + 2 * problem.k, 1))
    null[:2, 0] = 1.0, -1.0
    found = problem.errors(problem.joint(joint.z, tau), null)
    np.testing.assert_allclose(found[2:], expected[1:], rtol=1e-6)
