r"""Spreads learned by evidence, against the marginal likelihood of all points.

With the physics linearised, :math:`y = X b + Z u + \epsilon` with :math:`b` (physics, mean
contrast, mean offset) of flat prior, :math:`u_c \sim N(0, \tau_c^2)`,
:math:`u_o \sim N(0, \tau_o^2)`. Then y has the covariance :math:`V = \sigma^2 + Z D Z^T`, and
integrating over b gives the restricted likelihood (D. Harville, *Biometrika* 61, 383, 1974).
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from homodyne_fit.fitting.layers.evidence import fit_scaling_prior
from homodyne_fit.kernel.elimination import eliminate
from homodyne_fit.model.scaling import scaling_map

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

    def joint(self, mode="individual", z=None):
        moments = np.einsum("kni,knj->kij", self.x, self.x)
        scaling = scaling_map(mode, phi=np.arange(self.k) * 10.0, contrast=WIDE, offset=WIDE)
        return eliminate(moments, np.zeros(self.k), scaling, z=z)

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
