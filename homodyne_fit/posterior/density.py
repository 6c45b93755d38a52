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

All numbers of a density are arguments of the programs that JAX compiles: posteriors of one `Form`
and of arrays of one shape share them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import solve_triangular
from jax.scipy.special import gammaln
from numpy.typing import NDArray

from homodyne_fit.kernel.decay_sums import Tiles, decay_sums
from homodyne_fit.kernel.objective import TwoTimeObjective
from homodyne_fit.kernel.precision import Precision
from homodyne_fit.model.coordinates import SearchSpace
from homodyne_fit.model.parameters import SCALING
from homodyne_fit.model.rates import (
    RATE_FLOOR,
    RateFunction,
    is_own,
    on_offset,
    power_law,
    value_and_slope,
)
from homodyne_fit.model.scaling import (
    LEAST_MEAN,
    TYPICAL_SPREAD,
    ScalingMap,
    centering_matrix,
)
from homodyne_fit.posterior.likelihood import Adjustment
from homodyne_fit.posterior.settings import PriorKind, Priors

__all__ = ["Conditional", "CurvesOfDraw", "Density", "make_density"]

Floats = NDArray[np.float64]

# Largest spread.
WIDEST_SPREAD = 3.0

# Smallest one, below which its prior has no weight.
NARROWEST_SPREAD = 1e-6

# Distance from a bound, relative to that of the bounds, at which a search may start.
INSIDE, INSIDE_SPREAD = 1e-3, 1e-6

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


class PowerLaw(NamedTuple):
    """A rate.

    Attributes
    ----------
    rate : callable
        Of time, mid-measurement and coordinates.
    coordinates : (int, int)
        The first that belongs to it, and the first after it that does not.
    form : callable or None
        Coordinates of a power law, as in `SearchSpace.law_form`.
    """

    rate: RateFunction
    coordinates: tuple[int, int]
    form: RateFunction | None

    @property
    def part(self) -> slice:
        return slice(*self.coordinates)


@dataclass(frozen=True)
class Form:
    """What decides the programs of a density besides the shapes of its arrays.

    Attributes
    ----------
    laws : tuple of PowerLaw
    searched : tuple of bool
        Of all coordinates (p,).
    two_bounds, lower_bound : tuple of bool
        Of all unknowns (d,): which have two bounds, and which a lower one alone.
    priors : tuple of PriorKind or None
        Of all parameters (p,).
    learned : bool
        Whether the spreads of contrast and offset are unknown.
    n_frames : int
    sinc_power : int
    precision : {'double', 'single'}
    """

    laws: tuple[PowerLaw, ...]
    searched: tuple[bool, ...]
    two_bounds: tuple[bool, ...]
    lower_bound: tuple[bool, ...]
    priors: tuple[PriorKind | None, ...]
    learned: bool
    n_frames: int
    sinc_power: int
    precision: Precision

    @property
    def n_physics(self) -> int:
        """Searched coordinates."""
        return sum(self.searched)

    @property
    def has_flow(self) -> bool:
        """Whether there is a shear rate."""
        return len(self.laws) > 1


class ParameterPriors(NamedTuple):
    """Mean and width of the priors of all parameters, and the bounds of these, each (p,)."""

    mu: Any
    sigma: Any
    lower: Any
    upper: Any


class ScalingPriors(NamedTuple):
    """Normal priors of z: Λ (mz, mz) and η (mz,) of what is known, and the forms of the spreads.

    Attributes
    ----------
    precision, pull : (mz, mz) and (mz,) array
    deviations : (2, mz, mz) array
        Squares of the deviations of contrasts, and of offsets, from their mean.
    typical : (2,) array
        Medians of the priors of their spreads.
    """

    precision: Any
    pull: Any
    deviations: Any
    typical: Any


class AnglesOfDensity(NamedTuple):
    """K angles.

    Attributes
    ----------
    a, phase, phi, weights : (K,) array
        q², what multiplies cos(φ0 − φ) ΔΓ, degrees, and weights of the squares.
    matrix, constant : (2, K, mz) and (2, K) array
        Contrasts and offsets by z, the offsets less the reference.
    sums : (K, 3) array
        Σd², Σd and the points, d = c2 − reference.
    """

    a: Any
    phase: Any
    phi: Any
    weights: Any
    matrix: Any
    constant: Any
    sums: Any


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Density:
    """The posterior of coordinates and spreads.

    Attributes
    ----------
    form : Form
    lower, upper : (d,) array
        Bounds of the searched y, then of the spreads.
    coordinates : (p,) array
        Values of those that are not searched; 0 for the others.
    dt : float
        Seconds.
    angles : AnglesOfDensity
    adjustment : Adjustment
    priors : ParameterPriors
    scaling : ScalingPriors
    prior_share : float
        Power of the prior; below 1 for a shard of the data.
    """

    form: Form = field(metadata={"static": True})
    lower: Any
    upper: Any
    coordinates: Any
    dt: Any
    angles: AnglesOfDensity
    adjustment: Adjustment
    priors: ParameterPriors
    scaling: ScalingPriors
    prior_share: Any

    @property
    def _kinds(self) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        return np.array(self.form.two_bounds), np.array(self.form.lower_bound)

    def from_bounded(self, v: Floats) -> Floats:
        """ξ of y and spreads within their bounds."""
        both, low = self._kinds
        xi = np.array(v, dtype=np.float64)
        # What is at a bound is a little inside; spreads are far below their upper one.
        inside = np.where(np.arange(len(v)) < self.form.n_physics, INSIDE, INSIDE_SPREAD)
        width = np.where(both, self.upper - self.lower, 1.0)
        share = np.clip((v - np.where(both, self.lower, 0.0)) / width, inside, 1 - inside)
        xi[both] = np.log(share / (1 - share))[both]
        above = np.maximum(v - np.where(low, self.lower, 0.0), INSIDE * np.abs(v))
        xi[low] = np.log(above[low])
        return xi

    def slopes(self, xi: Floats) -> Floats:
        """Derivatives of y and spreads by ξ."""
        both, low = self._kinds
        slope, share = np.ones_like(xi), 1 / (1 + np.exp(-xi[both]))
        slope[both] = (self.upper - self.lower)[both] * share * (1 - share)
        slope[low] = np.exp(xi[low])
        return slope

    def bounded(self, xi: jax.Array) -> tuple[jax.Array, jax.Array]:
        """y and spreads, and the log of the volume by which ξ differs from them."""
        both, low = self._kinds
        width = jnp.where(both, self.upper - self.lower, 1.0)
        base = jnp.where(both | low, self.lower, 0.0)
        sigmoid = jax.nn.sigmoid(xi)
        exponential = jnp.exp(jnp.where(low, xi, 0.0))
        v = jnp.where(both, base + width * sigmoid, jnp.where(low, base + exponential, xi))
        log_sigmoid = jax.nn.log_sigmoid(xi) + jax.nn.log_sigmoid(-xi) + jnp.log(width)
        volume = jnp.where(both, log_sigmoid, jnp.where(low, xi, 0.0))
        return v, volume.sum()

    def curves(self, xi: jax.Array) -> CurvesOfDraw:
        """What the points depend on."""
        form, full = self.form, self._complete(self.bounded(xi)[0])
        times = jnp.arange(form.n_frames) * self.dt
        tau, at = times[-1] / 2, jnp.maximum(times, self.dt / 2)

        def integral(law: PowerLaw) -> jax.Array:
            p = full[law.part]
            rate = law.rate(at, tau, [p[i] for i in range(len(p))])
            rate = jnp.where(rate < RATE_FLOOR, RATE_FLOOR, rate)
            steps = 0.5 * (rate[1:] + rate[:-1]) * self.dt
            return jnp.concatenate([jnp.zeros(1), jnp.cumsum(steps)])

        s, *gamma = map(integral, form.laws)
        if not gamma:
            return CurvesOfDraw(s, jnp.zeros_like(s), jnp.zeros(len(self.angles.a)))
        angle = jnp.deg2rad(full[-1] - self.angles.phi)
        return CurvesOfDraw(s, gamma[0], self.angles.phase * jnp.cos(angle))

    def log_density_of_points(self, xi: jax.Array, tiles: Tiles) -> jax.Array:
        """Of ξ, but for a constant."""
        form = self.form
        sum_up = decay_sums(form.sinc_power, form.precision, has_flow=form.has_flow)
        s, gamma, b = self.curves(xi)
        return self.log_density(xi, sum_up(s, gamma, jnp.asarray(self.angles.a), b, tiles))

    def log_density(self, xi: jax.Array, sums: jax.Array) -> jax.Array:
        """Of ξ, but for a constant, from the sums of f², f and f d of each angle (K, 3)."""
        v, volume = self.bounded(xi)
        cost, u, conditional, of_scaling = self._parts(v, sums)
        w = self.adjustment.precision
        ratio = (u @ w @ u + TINY) / (u @ u + TINY)
        log_likelihood = -ratio * (cost - self.adjustment.cost) / self.adjustment.variance
        log_root = jnp.log(jnp.diag(conditional.root)).sum()
        log_prior = self.prior_share * self.log_prior(v[: self.form.n_physics])
        if self.form.learned:
            log_prior = log_prior - jnp.log1p((v[-2:] / self.scaling.typical) ** 2).sum()
            # The norm of the normal distribution of contrasts and offsets.
            log_prior = log_prior - (len(self.angles.a) - 1) * jnp.log(v[-2:]).sum()
        result = log_likelihood + of_scaling - log_root + log_prior + volume
        return jnp.where(jnp.isfinite(result), result, -jnp.inf)

    def conditional(self, xi: jax.Array, sums: jax.Array) -> Conditional:
        """Contrast and offset given ξ."""
        return self._parts(self.bounded(xi)[0], sums)[2]

    def _parts(
        self, v: jax.Array, sums: jax.Array
    ) -> tuple[jax.Array, jax.Array, Conditional, jax.Array]:
        """C(y), u, the conditional of z, and the exponent that integrating z leaves."""
        angles, adjustment = self.angles, self.adjustment
        b, constant, weights = (
            jnp.asarray(each) for each in (angles.matrix, angles.constant, angles.weights)
        )
        (ff, f, fd), (dd, d, n) = sums.T, jnp.asarray(angles.sums).T
        m = jnp.stack([jnp.stack([ff, f]), jnp.stack([f, n])])  # (2, 2, K)
        right = jnp.stack([fd, d]) - jnp.einsum("ijk,jk->ik", m, constant)
        square = dd - 2 * (constant * jnp.stack([fd, d])).sum(0)
        square = square + jnp.einsum("ik,ijk,jk->k", constant, m, constant)
        h_zz = jnp.einsum("k,ikx,ijk,jky->xy", weights, b, m, b)
        linear = jnp.einsum("k,ikx,ik->x", weights, b, right)
        u = jnp.asarray(adjustment.to_white) @ (v[: self.form.n_physics] - adjustment.y)
        if not len(h_zz):
            nothing = Conditional(jnp.zeros(0), jnp.zeros((0, 0)))
            return 0.5 * weights @ square, u, nothing, jnp.zeros(())
        root = jnp.linalg.cholesky(h_zz / adjustment.variance)
        half = solve_triangular(root, linear / adjustment.variance, lower=True)
        z = solve_triangular(root.T, half, lower=False)
        cost = 0.5 * (weights @ square - linear @ z)
        mean = z + adjustment.shift @ u
        precision = root @ adjustment.scaling_precision @ root.T
        prior, pull = jnp.asarray(self.scaling.precision), self.scaling.pull
        if self.form.learned:
            prior = prior + jnp.einsum("i,ixy->xy", 1 / v[-2:] ** 2, self.scaling.deviations)
        g = pull - prior @ mean
        total = jnp.linalg.cholesky(precision + prior)
        half = solve_triangular(total, g, lower=True)
        exponent = -0.5 * mean @ prior @ mean + pull @ mean + 0.5 * half @ half
        shifted = mean + solve_triangular(total.T, half, lower=False)
        return cost, u, Conditional(shifted, total), exponent

    def log_prior(self, y: jax.Array) -> jax.Array:
        """Of the searched coordinates."""
        form, full = self.form, self._complete(y)
        others, total = [i for i, free in enumerate(form.searched) if free], jnp.zeros(())
        for law in form.laws:
            first, last = law.coordinates
            free = [i for i in others if first <= i < last]
            others = [i for i in others if i not in free]
            if not any(form.priors[i] for i in free):
                continue
            values = full[law.part]
            to_law = self._to_law(law.form)
            if to_law is not None:
                kept = np.array(free) - first
                block = jax.jacfwd(to_law)(values)[kept[:, None], kept]
                total = total + jnp.linalg.slogdet(block)[1]
                values = to_law(values)
            total = total + self._of_parameters(free, values[np.array(free) - first])
        return total + self._of_parameters(others, full[np.array(others, dtype=int)])

    def _of_parameters(self, indices: Sequence[int], values: jax.Array) -> jax.Array:
        total = jnp.zeros(())
        for i, value in zip(indices, values, strict=True):
            kind = self.form.priors[i]
            if kind is not None:
                mu, sigma, lower, upper = (each[i] for each in self.priors)
                total = total + _log_prior(kind, mu, sigma, value, (lower, upper))
        return total

    def _to_law(self, form: RateFunction | None) -> Callable[[jax.Array], jax.Array] | None:
        """From the coordinates of a power law to its parameters; None where they are the same."""
        tau = (self.form.n_frames - 1) * self.dt / 2
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
        """All coordinates (p,), from those searched, and whatever follows them."""
        searched = np.flatnonzero(self.form.searched)
        return jnp.asarray(self.coordinates).at[searched].set(y[: len(searched)])


def _log_prior(
    kind: PriorKind, mu: Any, sigma: Any, x: jax.Array, limits: tuple[Any, Any]
) -> jax.Array:
    """Log density of a parameter within its bounds, but for a constant."""
    match kind:
        case "Uniform":
            return jnp.zeros(())
        case "LogNormal":
            positive = jnp.where(x > 0, x, 1.0)
            log = jnp.log(positive)
            value = -0.5 * ((log - mu) / sigma) ** 2 - log
            return jnp.where(x > 0, value, -jnp.inf)
        case "BetaScaled":
            lower, upper = limits
            mean, width = (mu - lower) / (upper - lower), upper - lower
            total = mean * (1 - mean) * (width / sigma) ** 2 - 1
            share = (x - lower) / width
            inside = (share > 0) & (share < 1)
            share = jnp.where(inside, share, 0.5)
            first, second = mean * total, (1 - mean) * total
            value = (first - 1) * jnp.log(share) + (second - 1) * jnp.log1p(-share)
            constant = gammaln(total) - gammaln(first) - gammaln(second)
            return jnp.where(inside, value + constant, -jnp.inf)
        case _:
            return -0.5 * ((x - mu) / sigma) ** 2


def make_density(
    objective: TwoTimeObjective,
    space: SearchSpace,
    adjustment: Adjustment,
    sums: Floats,
    priors: Priors,
    penalty: Floats,
    means: tuple[float, float] | None = None,
    prior_share: float = 1.0,
) -> Density:
    """The posterior of the coordinates of a space.

    Parameters
    ----------
    objective : TwoTimeObjective
        Its scaling without limits and penalty.
    space : SearchSpace
    adjustment : Adjustment
    sums : (K, 3) array
        Σd², Σd and the points of each angle, d = c2 − reference.
    priors : mapping
    penalty : (mz, mz) array
        A penalty that is not learned, over σ².
    means : (float, float), optional
        Mean contrast and offset where the spreads are learned.
    prior_share : float
        Power of the prior.
    """
    names, (lower, upper) = space.model.parameters, space.limits
    sizes = np.maximum(np.abs(means if means is not None else (0.0, 0.0)), LEAST_MEAN)
    if means is not None:
        lower = np.concatenate([lower, NARROWEST_SPREAD * sizes])
        upper = np.concatenate([upper, WIDEST_SPREAD * sizes])
    low, high = np.isfinite(lower), np.isfinite(upper)
    form = Form(
        laws=_laws(objective, space),
        searched=tuple(space.searched.tolist()),
        two_bounds=tuple((low & high).tolist()),
        lower_bound=tuple((low & ~high).tolist()),
        priors=tuple(priors[name].kind if name in priors else None for name in names),
        learned=means is not None,
        n_frames=objective.n_frames,
        sinc_power=objective.sinc_power,
        precision=objective.precision,
    )
    known = [(priors[n].mu, priors[n].sigma) if n in priors else (np.nan, np.nan) for n in names]
    mu, sigma = np.array(known).T
    return Density(
        form=form,
        lower=lower,
        upper=upper,
        coordinates=np.nan_to_num(space.fixed_coordinates),
        dt=float(objective.dt),
        angles=_angles(objective, sums),
        adjustment=adjustment,
        priors=ParameterPriors(mu, sigma, space.lower, space.upper),
        scaling=_scaling_priors(
            objective.scaling, priors, penalty, np.array(TYPICAL_SPREAD) * sizes, prior_share
        ),
        prior_share=float(prior_share),
    )


def _laws(objective: TwoTimeObjective, space: SearchSpace) -> tuple[PowerLaw, ...]:
    model, a = objective.model, len(objective.model.transport_parameters)
    laws = [PowerLaw(_by_identity(model.transport), (0, a), space.law_form(0))]
    if model.shear_rate is not None:
        end = a + len(model.shear_parameters)
        laws.append(PowerLaw(_by_identity(model.shear_rate), (a, end), space.law_form(a)))
    return tuple(laws)


def _by_identity(law: RateFunction) -> RateFunction:
    """The law; one of a caller's own, which may read what changes, as a new function each time."""
    if is_own(law):
        return law
    return lambda t, tau, p: law(t, tau, p)


def _angles(objective: TwoTimeObjective, sums: Floats) -> AnglesOfDensity:
    k = len(objective.q)
    phase = np.zeros(k)
    if objective.model.has_flow:
        phase = objective.phase_per_gap * objective.q * objective.gap
    constant = objective.scaling.constant.reshape(2, k)
    return AnglesOfDensity(
        a=objective.q**2,
        phase=phase,
        phi=objective.phi,
        weights=objective.weights,
        matrix=objective.scaling.matrix.reshape(2, k, -1),
        constant=constant - np.stack([np.zeros(k), objective.reference]),
        sums=sums,
    )


def _scaling_priors(
    scaling: ScalingMap, priors: Priors, penalty: Floats, typical: Floats, prior_share: float
) -> ScalingPriors:
    k = scaling.n_angles
    parts, constants = scaling.matrix.reshape(2, k, -1), scaling.constant.reshape(2, k)
    precision, pull = np.array(penalty, dtype=np.float64), np.zeros(parts.shape[2])
    # One pair that all angles share is one pair.
    share = 1 / k if scaling.mode == "averaged" else 1.0
    for name, part, constant in zip(SCALING, parts, constants, strict=True):
        each = priors.get(name)
        if each is not None and each.kind != "Uniform":
            weight = prior_share * share / each.sigma**2
            precision += weight * part.T @ part
            pull += weight * part.T @ (each.mu - constant)
    deviations = np.einsum("ikx,kl,ily->ixy", parts, centering_matrix(k), parts)
    return ScalingPriors(precision, pull, deviations, typical)
