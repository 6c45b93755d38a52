r"""The density of the posterior, as a function that JAX differentiates.

The unknowns are the searched coordinates y and, where the spread of contrast and offset over the
angles was learned, :math:`\tau_c` and :math:`\tau_o`. Coordinates ξ without bounds stand for them:
a bounded one is :math:`l + (u - l)/(1 + e^{-\xi})`, one with a lower bound alone :math:`l + e^\xi`.

At given y and τ the contrasts and offsets :math:`z \sim N(m, K^{-1})` of the likelihood and their
normal prior :math:`\exp(-\tfrac12 z^T \Lambda z + \eta^T z)` integrate out, with
:math:`g = \eta - \Lambda m`, to

.. math:: -\tfrac12 \ln\det(K + \Lambda) - \tfrac12 m^T \Lambda m + \eta^T m
          + \tfrac12 g^T (K + \Lambda)^{-1} g,

and z given the rest is normal, :math:`N(m + (K + \Lambda)^{-1} g, (K + \Lambda)^{-1})`. Their
bounds, and those of parameters that are no coordinates, are kept by leaving out draws beyond them.

The prior of a power law is flat in its coordinates, value and slope at mid-measurement and
exponent, unless one of its parameters has a prior: then it is the product of the priors of its
parameters, flat for those that have none. The prior of τ is a half-Cauchy distribution (A. Gelman,
*Bayesian Anal.* 1, 515 (2006)) whose median is 10 % of the mean contrast, 2 % of the mean offset.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import solve_triangular
from jax.scipy.special import gammaln
from numpy.typing import NDArray

from homodyne_fit.kernel.objective import TwoTimeObjective
from homodyne_fit.model.coordinates import SearchSpace
from homodyne_fit.model.rates import RATE_FLOOR, on_offset, power_law, value_and_slope
from homodyne_fit.model.scaling import centering_matrix
from homodyne_fit.posterior.likelihood import Adjustment
from homodyne_fit.posterior.settings import Prior, Priors

__all__ = ["Conditional", "CurvesOfDraw", "Density"]

Floats = NDArray[np.float64]

# Median of the prior of the spread over the angles, relative to the mean contrast and offset.
TYPICAL_SPREAD = (0.10, 0.02)

# Largest spread.
WIDEST_SPREAD = 3.0

# Smallest one, below which its prior has no weight.
NARROWEST_SPREAD = 1e-6

# Distance from a bound, relative to that of the bounds, at which a search may start.
INSIDE, INSIDE_SPREAD = 1e-3, 1e-6

# Smallest mean that spreads are compared with.
LEAST_MEAN = 1e-3

# In the ratio of two squares that vanish together.
TINY = 1e-12


class CurvesOfDraw(NamedTuple):
    """S and Γ (n,), and the factor b of each angle (K,)."""

    s: Any
    gamma: Any
    b: Any


class Conditional(NamedTuple):
    """Contrast and offset given the rest: mean (mz,), and the Cholesky root of the precision."""

    mean: Any
    root: Any


@dataclass(frozen=True, eq=False)
class Density:
    """The posterior of coordinates and spreads.

    Attributes
    ----------
    objective : TwoTimeObjective
        Its scaling without limits and penalty.
    space : SearchSpace
    adjustment : Adjustment
    constant_sums : (K, 3) array
        Σd², Σd and the points of each angle, d = c2 − reference.
    priors : mapping
    penalty : (mz, mz) array
        A penalty that is not learned, over σ².
    means : (float, float) or None
        Mean contrast and offset where the spreads are learned.
    prior_share : float
        Power of the prior; below 1 for a shard of the data.
    """

    objective: TwoTimeObjective
    space: SearchSpace
    adjustment: Adjustment
    constant_sums: Floats
    priors: Priors
    penalty: Floats
    means: tuple[float, float] | None = None
    prior_share: float = 1.0

    @property
    def n_physics(self) -> int:
        """Searched coordinates."""
        return int(np.count_nonzero(self.space.searched))

    @cached_property
    def bounds(self) -> tuple[Floats, Floats]:
        """Of y, then of the spreads."""
        lower, upper = self.space.limits
        if self.means is None:
            return lower, upper
        means = np.maximum(np.abs(self.means), LEAST_MEAN)
        return (
            np.concatenate([lower, NARROWEST_SPREAD * means]),
            np.concatenate([upper, WIDEST_SPREAD * means]),
        )

    @cached_property
    def _kinds(self) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Which unknowns have two bounds, and which a lower one alone."""
        lower, upper = (np.isfinite(each) for each in self.bounds)
        return lower & upper, lower & ~upper

    def from_bounded(self, v: Floats) -> Floats:
        """ξ of y and spreads within their bounds."""
        (lower, upper), (both, low) = self.bounds, self._kinds
        xi = np.array(v, dtype=np.float64)
        # What is at a bound is a little inside; spreads are far below their upper one.
        inside = np.where(np.arange(len(v)) < self.n_physics, INSIDE, INSIDE_SPREAD)
        width = np.where(both, upper - lower, 1.0)
        share = np.clip((v - np.where(both, lower, 0.0)) / width, inside, 1 - inside)
        xi[both] = np.log(share / (1 - share))[both]
        above = np.maximum(v - np.where(low, lower, 0.0), INSIDE * np.abs(v))
        xi[low] = np.log(above[low])
        return xi

    def slopes(self, xi: Floats) -> Floats:
        """Derivatives of y and spreads by ξ."""
        (lower, upper), (both, low) = self.bounds, self._kinds
        slope, share = np.ones_like(xi), 1 / (1 + np.exp(-xi[both]))
        slope[both] = (upper - lower)[both] * share * (1 - share)
        slope[low] = np.exp(xi[low])
        return slope

    def bounded(self, xi: jax.Array) -> tuple[jax.Array, jax.Array]:
        """y and spreads, and the log of the volume by which ξ differs from them."""
        (lower, upper), (both, low) = self.bounds, self._kinds
        width = np.where(both, upper - lower, 1.0)
        base = np.where(both | low, lower, 0.0)
        sigmoid = jax.nn.sigmoid(xi)
        exponential = jnp.exp(jnp.where(low, xi, 0.0))
        v = jnp.where(both, base + width * sigmoid, jnp.where(low, base + exponential, xi))
        log_sigmoid = jax.nn.log_sigmoid(xi) + jax.nn.log_sigmoid(-xi) + np.log(width)
        volume = jnp.where(both, log_sigmoid, jnp.where(low, xi, 0.0))
        return v, volume.sum()

    def curves(self, xi: jax.Array) -> CurvesOfDraw:
        """What the points depend on."""
        o, full = self.objective, self._complete(self.bounded(xi)[0])
        model = o.model
        times = np.arange(o.n_frames) * o.dt
        tau, a = times[-1] / 2, len(model.transport_parameters)
        at = jnp.asarray(np.maximum(times, o.dt / 2))

        def integral(law: Any, p: jax.Array) -> jax.Array:
            rate = law(at, tau, [p[i] for i in range(len(p))])
            rate = jnp.where(rate < RATE_FLOOR, RATE_FLOOR, rate)
            steps = 0.5 * (rate[1:] + rate[:-1]) * o.dt
            return jnp.concatenate([jnp.zeros(1), jnp.cumsum(steps)])

        s = integral(model.transport, full[:a])
        if model.shear_rate is None:
            return CurvesOfDraw(s, jnp.zeros_like(s), jnp.zeros(len(o.q)))
        gamma = integral(model.shear_rate, full[a : a + len(model.shear_parameters)])
        angle = jnp.deg2rad(full[model.parameters.index("phi0")] - o.phi)
        return CurvesOfDraw(s, gamma, o.phase_per_gap * o.q * o.gap * jnp.cos(angle))

    def log_density(self, xi: jax.Array, sums: jax.Array) -> jax.Array:
        """Of ξ, but for a constant, from the sums of f², f and f d of each angle (K, 3)."""
        v, volume = self.bounded(xi)
        cost, u, conditional, of_scaling = self._parts(v, sums)
        w = jnp.asarray(self.adjustment.precision)
        ratio = (u @ w @ u + TINY) / (u @ u + TINY)
        log_likelihood = -ratio * (cost - self.adjustment.cost) / self.adjustment.variance
        log_root = jnp.log(jnp.diag(conditional.root)).sum()
        log_prior = self.prior_share * self.log_prior(v[: self.n_physics])
        if self.means is not None:
            typical = np.array(TYPICAL_SPREAD) * np.maximum(np.abs(self.means), LEAST_MEAN)
            log_prior = log_prior - jnp.log1p((v[-2:] / typical) ** 2).sum()
            # The norm of the normal distribution of contrasts and offsets.
            log_prior = log_prior - (len(self.objective.q) - 1) * jnp.log(v[-2:]).sum()
        result = log_likelihood + of_scaling - log_root + log_prior + volume
        return jnp.where(jnp.isfinite(result), result, -jnp.inf)

    def conditional(self, xi: jax.Array, sums: jax.Array) -> Conditional:
        """Contrast and offset given ξ."""
        return self._parts(self.bounded(xi)[0], sums)[2]

    def _parts(
        self, v: jax.Array, sums: jax.Array
    ) -> tuple[jax.Array, jax.Array, Conditional, jax.Array]:
        """C(y), u, the conditional of z, and the exponent that integrating z leaves."""
        o, adjustment = self.objective, self.adjustment
        b = jnp.asarray(o.scaling.matrix.reshape(2, len(o.q), -1))
        constant = jnp.asarray(o.scaling.constant.reshape(2, -1))
        constant = constant - jnp.stack([jnp.zeros(len(o.q)), jnp.asarray(o.reference)])
        (ff, f, fd), (dd, d, n) = sums.T, jnp.asarray(self.constant_sums.T)
        weights = jnp.asarray(o.weights)
        m = jnp.stack([jnp.stack([ff, f]), jnp.stack([f, n])])  # (2, 2, K)
        right = jnp.stack([fd, d]) - jnp.einsum("ijk,jk->ik", m, constant)
        square = dd - 2 * (constant * jnp.stack([fd, d])).sum(0)
        square = square + jnp.einsum("ik,ijk,jk->k", constant, m, constant)
        h_zz = jnp.einsum("k,ikx,ijk,jky->xy", weights, b, m, b)
        linear = jnp.einsum("k,ikx,ik->x", weights, b, right)
        u = jnp.asarray(adjustment.to_white) @ (v[: self.n_physics] - adjustment.y)
        if not len(h_zz):
            nothing = Conditional(jnp.zeros(0), jnp.zeros((0, 0)))
            return 0.5 * weights @ square, u, nothing, jnp.zeros(())
        root = jnp.linalg.cholesky(h_zz / adjustment.variance)
        half = solve_triangular(root, linear / adjustment.variance, lower=True)
        z = solve_triangular(root.T, half, lower=False)
        cost = 0.5 * (weights @ square - linear @ z)
        mean = z + jnp.asarray(adjustment.shift) @ u
        precision = root @ jnp.asarray(adjustment.scaling_precision) @ root.T
        prior, pull = self._scaling_prior(v)
        g = pull - prior @ mean
        total = jnp.linalg.cholesky(precision + prior)
        half = solve_triangular(total, g, lower=True)
        exponent = -0.5 * mean @ prior @ mean + pull @ mean + 0.5 * half @ half
        shifted = mean + solve_triangular(total.T, half, lower=False)
        return cost, u, Conditional(shifted, total), exponent

    def _scaling_prior(self, v: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Λ and η."""
        scaling = self.objective.scaling
        k, b = scaling.n_angles, scaling.matrix.reshape(2, scaling.n_angles, -1)
        prior, pull = jnp.asarray(self.penalty), jnp.zeros(b.shape[2])
        if self.means is not None:
            for part, tau in zip(b, (v[-2], v[-1]), strict=True):
                prior = prior + part.T @ centering_matrix(k) @ part / tau**2
        # One pair that all angles share is one pair.
        share = 1 / k if scaling.mode == "averaged" else 1.0
        constants = scaling.constant.reshape(2, k)
        for name, part, constant in zip(("contrast", "offset"), b, constants, strict=True):
            each = self.priors.get(name)
            if each is not None and each.kind != "Uniform":
                weight = self.prior_share * share / each.sigma**2
                prior = prior + weight * part.T @ part
                pull = pull + weight * part.T @ (each.mu - constant)
        return prior, pull

    def log_prior(self, y: jax.Array) -> jax.Array:
        """Of the searched coordinates."""
        space, full = self.space, self._complete(y)
        names, total, in_laws = space.model.parameters, jnp.zeros(()), set()
        for law in space.power_laws:
            part = [law, law + 1, law + 2]
            in_laws.update(part)
            free = [i for i in part if space.searched[i]]
            if not any(names[i] in self.priors for i in free):
                continue
            to_law = self._to_law(law)
            if to_law is not None:
                values = to_law(full[law : law + 3])
                inner = jax.jacfwd(to_law)(full[law : law + 3])
                kept = np.array(free) - law
                block = inner[kept[:, None], kept]
                total = total + jnp.linalg.slogdet(block)[1]
            else:
                values = full[law : law + 3]
            total = total + self._of_parameters(free, lambda i, x=values, at=law: x[i - at])
        others = [i for i in np.flatnonzero(space.searched).tolist() if i not in in_laws]
        return total + self._of_parameters(others, lambda i: full[i])

    def _of_parameters(
        self, indices: Sequence[int], value: Callable[[int], jax.Array]
    ) -> jax.Array:
        space, total = self.space, jnp.zeros(())
        for i in indices:
            prior = self.priors.get(space.model.parameters[i])
            if prior is not None:
                limits = float(space.lower[i]), float(space.upper[i])
                total = total + _log_prior(prior, value(i), limits)
        return total

    def _to_law(self, law: int) -> Callable[[jax.Array], jax.Array] | None:
        """From the coordinates of a power law to its parameters; None where they are the same."""
        tau, form = self.space.tau, self.space.law_form(law)
        if form is value_and_slope:

            def to_law(y: jax.Array) -> jax.Array:
                amplitude = y[1] / y[2]
                return jnp.stack([amplitude * tau ** -y[2], y[2], y[0] - amplitude])

            return to_law
        if form is on_offset:
            return lambda y: jnp.stack([(y[0] - y[2]) * tau ** -y[1], y[1], y[2]])
        assert form in (None, power_law)
        return None

    def _complete(self, y: jax.Array) -> jax.Array:
        """All coordinates (p,)."""
        fixed = self.space.fixed_coordinates
        searched = np.flatnonzero(self.space.searched)
        return jnp.asarray(np.nan_to_num(fixed)).at[searched].set(y[: len(searched)])


def _log_prior(prior: Prior, x: jax.Array, limits: tuple[float, float]) -> jax.Array:
    """Log density of a parameter within its bounds, but for a constant."""
    match prior.kind:
        case "Uniform":
            return jnp.zeros(())
        case "LogNormal":
            positive = jnp.where(x > 0, x, 1.0)
            log = jnp.log(positive)
            value = -0.5 * ((log - prior.mu) / prior.sigma) ** 2 - log
            return jnp.where(x > 0, value, -jnp.inf)
        case "BetaScaled":
            lower, upper = limits
            mean, width = (prior.mu - lower) / (upper - lower), upper - lower
            total = mean * (1 - mean) * (width / prior.sigma) ** 2 - 1
            share = (x - lower) / width
            inside = (share > 0) & (share < 1)
            share = jnp.where(inside, share, 0.5)
            first, second = mean * total, (1 - mean) * total
            value = (first - 1) * jnp.log(share) + (second - 1) * jnp.log1p(-share)
            constant = gammaln(total) - gammaln(first) - gammaln(second)
            return jnp.where(inside, value + constant, -jnp.inf)
        case _:
            return -0.5 * ((x - prior.mu) / prior.sigma) ** 2
