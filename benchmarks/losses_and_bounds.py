"""Curve fits over losses, bounds, starts and models, against SciPy and the optimality conditions.

Each fit is ``curve_fit_large`` with four chunks and default tolerances. The models: linear ones
whose columns have condition numbers up to 1e6, polynomials, sums of exponentials, Gaussian peaks
and sinusoids, with 1 to 20 parameters; sigma differs from point to point, and half of the data have
5 to 20 % outliers. The same problem goes to SciPy's ``least_squares`` with all points in memory and
tight tolerances, twice: from the same start, and from where our fit ended.

In units of the variance 2 cost / (N - p) of a point, a cost that is ½ ε² above another one is ε
standard errors away from it. How far x is from stationary is computed here from the points: the
part of the weighted residuals that the columns of those parameters could still take away which are
free or want to leave their bound, √(gᵀ H⁻¹ g) with H = Jᵀ ρ' J, in standard errors again; less
where no damped step gains as much, as on the ridge of two exponentials with one rate.

Counted of the fits that say success: those that are not stationary; those that are, with SciPy
below them although the problem is convex; and those at another minimum of one that is not. Beside
them the fits that say they did not converge, and exceptions.

    .venv/bin/python benchmarks/losses_and_bounds.py [--seeds 35] [--first 0] [--losses huber ...]
        [--bounds cutting ...] [--only huber:cutting:17] [--json rows.json] [--compare earlier.json]
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares
from threadpoolctl import threadpool_limits

Array = NDArray[np.float64]

LOSSES = ("linear", "soft_l1", "huber", "cauchy", "arctan")
BOUNDS = ("none", "around", "cutting", "start-on-bounds", "equal", "one-sided")
STARTS = ("near", "far", "all outliers")
CONVEX_LOSSES = ("linear", "soft_l1", "huber")
CHUNKS = 4
# Standard errors: what counts as above another cost, and as not stationary. Fits ask for 1e-4.
ABOVE, STATIONARY = 1e-2, 1e-2
# A parameter that is so near its bound, in standard errors, sits there.
AT_BOUND = 1e-6
SCIPY_NFEV = 400


# Models: value and Jacobian in NumPy here, the value in JAX for the fit.


@dataclass(frozen=True)
class Family:
    """Models of a kind.

    `jax` is f(x, *params), `numpy` returns the values (N,) and the Jacobian (N, p), `draw` returns
    true parameters (p,) and x.
    """

    jax: Callable[..., Any]
    numpy: Callable[[Array, Array], tuple[Array, Array]]
    draw: Callable[[np.random.Generator, int, int], tuple[Array, Array]]
    sizes: tuple[int, ...]


# Points of the data for each number of parameters: few shapes to compile for.
POINTS = {1: 500, 2: 500, 3: 1000, 5: 1000, 8: 2000, 12: 4000, 20: 4000}


def linear_jax(x: Any, *params: Any) -> Any:
    return jnp.stack(params) @ x


def linear(x: Array, params: Array) -> tuple[Array, Array]:
    return x.T @ params, x.T


def draw_linear(rng: np.random.Generator, p: int, n: int) -> tuple[Array, Array]:
    """Columns whose condition number is 1 to 1e6, half of them of very different sizes, too."""
    condition = 10 ** rng.uniform(0, 6)
    left = np.linalg.qr(rng.normal(size=(n, p)))[0]
    right = np.linalg.qr(rng.normal(size=(p, p)))[0]
    columns = np.sqrt(n) * left * np.geomspace(1, 1 / condition, p) @ right.T
    sizes = 10 ** rng.uniform(-3, 3, p) if rng.random() < 0.5 else np.ones(p)
    return rng.normal(size=p) * 3 / sizes, (columns * sizes).T


def draw_polynomial(rng: np.random.Generator, p: int, n: int) -> tuple[Array, Array]:
    """Powers of a number between 0 and 1."""
    t = np.sort(rng.uniform(0, 1, n))
    return rng.normal(size=p) * 3, t ** np.arange(p)[:, None]


def exponentials_jax(x: Any, *params: Any) -> Any:
    y = params[-1] if len(params) % 2 else 0.0
    for a, k in zip(params[0:-1:2], params[1::2], strict=False):
        y = y + a * jnp.exp(-k * x)
    return y


def exponentials(x: Array, params: Array) -> tuple[Array, Array]:
    columns: list[Array] = []
    y = np.zeros_like(x)
    for a, k in zip(params[0:-1:2], params[1::2], strict=False):
        e = np.exp(-k * x)
        y = y + a * e
        columns += [e, -a * x * e]
    if len(params) % 2:
        y = y + params[-1]
        columns.append(np.ones_like(x))
    return y, np.stack(columns, axis=1)


def draw_exponentials(rng: np.random.Generator, p: int, n: int) -> tuple[Array, Array]:
    x = np.sort(rng.uniform(0, 4, n))
    terms = p // 2
    rates = 0.4 * 4.0 ** (np.arange(terms) + rng.uniform(0, 0.5, terms))
    values = np.stack([rng.uniform(1, 6, terms), rates], axis=1).ravel()
    return np.append(values, rng.uniform(0.5, 2)) if p % 2 else values, x


def on_a_line(params: Sequence[Any], x: Any) -> Any:
    """The last one or two parameters: a constant and a slope."""
    rest = len(params) % 3
    return sum((params[len(params) - rest + i] * x**i for i in range(rest)), 0.0 * x)


def line_columns(p: int, x: Array) -> list[Array]:
    return [x**i for i in range(p % 3)]


def peaks_jax(x: Any, *params: Any) -> Any:
    y = on_a_line(params, x)
    for i in range(0, len(params) - 2, 3):
        y = y + params[i] * jnp.exp(-0.5 * ((x - params[i + 1]) * params[i + 2]) ** 2)
    return y


def peaks(x: Array, params: Array) -> tuple[Array, Array]:
    y, columns = on_a_line(params.tolist(), x), []
    for h, centre, sharpness in params[: 3 * (len(params) // 3)].reshape(-1, 3):
        u = (x - centre) * sharpness
        e = np.exp(-0.5 * u**2)
        y = y + h * e
        columns += [e, h * e * u * sharpness, -h * e * u * (x - centre)]
    return y, np.stack(columns + line_columns(len(params), x), axis=1)


def draw_peaks(rng: np.random.Generator, p: int, n: int) -> tuple[Array, Array]:
    m = p // 3
    x = np.sort(rng.uniform(0, 10, n))
    centres = (np.arange(m) + rng.uniform(0.2, 0.8, m)) * 10 / m
    values = np.stack([rng.uniform(1, 6, m), centres, rng.uniform(1, 3, m)], axis=1).ravel()
    return np.append(values, rng.uniform(-1, 1, p % 3)), x


def sinusoids_jax(x: Any, *params: Any) -> Any:
    y = on_a_line(params, x)
    for i in range(0, len(params) - 2, 3):
        y = y + params[i] * jnp.sin(params[i + 1] * x + params[i + 2])
    return y


def sinusoids(x: Array, params: Array) -> tuple[Array, Array]:
    y, columns = on_a_line(params.tolist(), x), []
    for a, w, shift in params[: 3 * (len(params) // 3)].reshape(-1, 3):
        s, c = np.sin(w * x + shift), np.cos(w * x + shift)
        y = y + a * s
        columns += [s, a * x * c, a * c]
    return y, np.stack(columns + line_columns(len(params), x), axis=1)


def draw_sinusoids(rng: np.random.Generator, p: int, n: int) -> tuple[Array, Array]:
    m = p // 3
    x = np.sort(rng.uniform(0, 10, n))
    frequencies = 1.0 + np.arange(m) + rng.uniform(0, 0.5, m)
    values = np.stack([rng.uniform(1, 4, m), frequencies, rng.uniform(-1, 1, m)], axis=1).ravel()
    return np.append(values, rng.uniform(-1, 1, p % 3)), x


FAMILIES = {
    "linear": Family(linear_jax, linear, draw_linear, (1, 3, 8, 12, 20)),
    "polynomial": Family(linear_jax, linear, draw_polynomial, (2, 5, 8)),
    "exponentials": Family(exponentials_jax, exponentials, draw_exponentials, (2, 3, 5)),
    "peaks": Family(peaks_jax, peaks, draw_peaks, (3, 5, 8, 20)),
    "sinusoids": Family(sinusoids_jax, sinusoids, draw_sinusoids, (3, 5, 12)),
}


# The cost, and how far a point is from stationary, from the points themselves.


def rho(loss: str, z: Array) -> tuple[Array, Array]:
    """ρ and ρ' of squared residuals z, as SciPy documents them."""
    if loss == "linear":
        return z, np.ones_like(z)
    if loss == "huber":
        root = np.sqrt(np.maximum(z, 1))
        return np.where(z <= 1, z, 2 * root - 1), 1 / root
    if loss == "soft_l1":
        return 2 * z / (np.sqrt(1 + z) + 1), 1 / np.sqrt(1 + z)
    if loss == "cauchy":
        return np.log1p(z), 1 / (1 + z)
    return np.arctan(z), 1 / (1 + z**2)


@dataclass(frozen=True)
class Problem:
    """What is fitted."""

    family: Family
    x: Array
    y: Array
    sigma: Array
    loss: str
    start: Array
    lower: Array
    upper: Array
    about: dict[str, Any]

    def rows(self, params: Array) -> tuple[Array, Array]:
        """Residuals (N,) and Jacobian (N, p) in units of sigma."""
        values, jacobian = self.family.numpy(self.x, params)
        return (values - self.y) / self.sigma, jacobian / self.sigma[:, None]

    def cost(self, params: Array) -> float:
        residual, _ = self.rows(params)
        return 0.5 * float(rho(self.loss, residual**2)[0].sum())

    @property
    def convex(self) -> bool:
        return self.family.jax is linear_jax and self.loss in CONVEX_LOSSES

    def left(self, params: Array) -> float:
        """How far from stationary, in standard errors."""
        residual, jacobian, variance = self._weighted(params)
        return stationarity(residual, jacobian, params - self.lower, self.upper - params, variance)

    def gained(self, params: Array) -> float:
        """What damped steps from here gain, in standard errors: more than zero if one descends."""
        residual, jacobian, variance = self._weighted(params)
        room = params - self.lower, self.upper - params
        costs = []
        with np.errstate(all="ignore"):
            for step in damped_steps(residual, jacobian, *room, variance):
                costs.append(self.cost(np.clip(params + step, self.lower, self.upper)))
        gain = self.cost(params) - np.nanmin([*costs, self.cost(params)])
        return float(np.sqrt(2 * gain / variance))

    def _weighted(self, params: Array) -> tuple[Array, Array, float]:
        """Residuals and Jacobian weighted by √ρ', and the variance of a point."""
        residual, jacobian = self.rows(params)
        values, slopes = rho(self.loss, residual**2)
        root = np.sqrt(slopes)
        variance = float(values.sum()) / max(1, len(residual) - len(params))
        return root * residual, root[:, None] * jacobian, variance


def free_to_act(
    residual: Array, jacobian: Array, below: Array, above: Array, variance: float
) -> tuple[NDArray[np.bool_], Array]:
    """Which parameters are not held by a bound, (p,), and the norms of all columns."""
    gradient, size = jacobian.T @ residual, np.linalg.norm(jacobian, axis=0)
    near = AT_BOUND * np.sqrt(variance) / np.where(size > 0, size, 1.0)
    held = ((below <= near) & (gradient >= 0)) | ((above <= near) & (gradient <= 0))
    return ~held & (below + above > 0) & (size > 0), size


def stationarity(
    residual: Array, jacobian: Array, below: Array, above: Array, variance: float
) -> float:
    """√(gᵀ H⁻¹ g / variance) over the parameters that are free or want to leave their bound.

    Residuals and Jacobian are weighted by √ρ'; `below` and `above` are the distances to the bounds.
    """
    free, size = free_to_act(residual, jacobian, below, above, variance)
    if not np.any(free):
        return 0.0
    basis, singular, _ = np.linalg.svd(jacobian[:, free] / size[free], full_matrices=False)
    basis = basis[:, singular > 1e-13 * singular[0]]
    return float(np.linalg.norm(basis.T @ residual) / np.sqrt(variance))


def damped_steps(
    residual: Array, jacobian: Array, below: Array, above: Array, variance: float
) -> Iterable[Array]:
    """Steps (p,) of Levenberg and Marquardt, from hardly to strongly damped."""
    free, size = free_to_act(residual, jacobian, below, above, variance)
    if not np.any(free):
        return
    left, singular, right = np.linalg.svd(jacobian[:, free] / size[free], full_matrices=False)
    for damping in np.geomspace(1e-16, 1e8, 49) * singular[0] ** 2:
        step = np.zeros(len(size))
        shrunk = singular / (singular**2 + damping)
        step[free] = -right.T @ (shrunk * (left.T @ residual)) / size[free]
        yield step


# Random problems.


def draw(loss: str, bounds: str, seed: int) -> Problem:
    """The problem of a seed."""
    rng = np.random.default_rng([seed, LOSSES.index(loss), BOUNDS.index(bounds)])
    names = list(FAMILIES)
    # Every loss and kind of bounds meets all starts and families in turn.
    kind, name = STARTS[seed % len(STARTS)], names[seed // len(STARTS) % len(names)]
    family = FAMILIES[name]
    p = int(rng.choice(family.sizes))
    n = POINTS[p]
    truth, x = family.draw(rng, p, n)
    clean, jacobian = family.numpy(x, truth)
    level = np.std(clean) * 10 ** rng.uniform(-2.5, -0.5) + 1e-3
    sigma = level * rng.uniform(0.5, 2.0, n)
    y = clean + sigma * rng.normal(size=n)
    share = rng.uniform(0.05, 0.2) if rng.random() < 0.5 else 0.0
    outliers = rng.random(n) < share
    signs = rng.choice([-1, 1], n) if rng.random() < 0.5 else np.ones(n)
    y = np.where(outliers, y + signs * sigma * 10 ** rng.uniform(1, 2, n), y)
    order = rng.permutation(n)
    x, y, sigma, jacobian = x[..., order], y[order], sigma[order], jacobian[order]
    # Sizes of the parameters, also where the data hardly determine them.
    errors = standard_errors(jacobian / sigma[:, None])
    sizes = np.maximum(np.maximum(np.abs(truth), 6 * errors), 0.1 * np.median(np.abs(truth)))
    if name == "peaks":
        # Of centre and sharpness: a box in which no peak leaves the data, and none is flat.
        sharpness = truth[2::3][: p // 3]
        sizes[1 : p - 1 : 3], sizes[2::3][: p // 3] = 1 / sharpness, 0.15 * sharpness
    lower, upper = draw_bounds(rng, bounds, truth, sizes, errors)
    if name == "exponentials":
        lower, upper = tame_rates(lower, upper, bounds, rng)
    start = draw_start(rng, kind, family, x, y, sigma, truth, sizes)
    start = np.clip(start, lower, upper)
    if bounds == "start-on-bounds":
        sides = np.where(rng.random(p) < 0.5, lower, upper)
        start = np.where(rng.random(p) < rng.choice([0.5, 1.0]), sides, start)
    about = {"family": name, "p": p, "N": n, "start": kind, "outliers": float(np.mean(outliers))}
    return Problem(family, x, y, sigma, loss, start, lower, upper, about)


def standard_errors(jacobian: Array) -> Array:
    size = np.linalg.norm(jacobian, axis=0)
    _, singular, right = np.linalg.svd(jacobian / size, full_matrices=False)
    return np.linalg.norm(right.T / np.maximum(singular, 1e-12 * singular[0]), axis=1) / size


def draw_bounds(
    rng: np.random.Generator, kind: str, truth: Array, sizes: Array, errors: Array
) -> tuple[Array, Array]:
    """Lower and upper bounds (p,)."""
    p = len(truth)
    if kind == "none":
        return np.full(p, -np.inf), np.full(p, np.inf)
    lower = truth - sizes * rng.uniform(1, 5, p)
    upper = truth + sizes * rng.uniform(1, 5, p)
    cut = np.zeros(p, bool)
    if kind == "cutting" or (kind in ("start-on-bounds", "one-sided") and rng.random() < 0.5):
        cut = rng.random(p) < rng.uniform(0.1, 0.8)
        cut[rng.integers(p)] = True
    # Away from the truth by a few standard errors, or by the size of the parameter.
    shift = np.where(rng.random(p) < 0.5, errors * rng.uniform(1, 30, p), sizes * rng.random(p))
    above = cut & (rng.random(p) < 0.5)
    lower = np.where(above, truth + shift, lower)
    upper = np.where(above, truth + shift + sizes, np.where(cut, truth - shift, upper))
    lower = np.where(cut & ~above, truth - shift - sizes, lower)
    if kind == "equal":
        i = rng.integers(p)
        lower[i] = upper[i] = truth[i] + rng.choice([0.0, shift[i]])
    if kind == "one-sided":
        left_out = rng.choice(3, p)
        lower = np.where(~above & (left_out == 0), -np.inf, lower)
        upper = np.where(above | (left_out == 1), np.inf, upper)
    return lower, upper


def tame_rates(
    lower: Array, upper: Array, kind: str, rng: np.random.Generator
) -> tuple[Array, Array]:
    """Rates not below zero within a box, and now and then all parameters from 0 to 10."""
    if kind == "none":
        return lower, upper
    if kind == "around" and rng.random() < 0.5:
        return np.zeros_like(lower), np.full_like(upper, 10.0)
    rates = np.arange(len(lower)) % 2 == 1
    equal = lower == upper
    lower = np.where(rates & np.isfinite(lower) & ~equal, np.maximum(lower, 0.0), lower)
    return lower, np.where(equal, upper, np.maximum(upper, lower + 0.1))


def draw_start(
    rng: np.random.Generator,
    kind: str,
    family: Family,
    x: Array,
    y: Array,
    sigma: Array,
    truth: Array,
    sizes: Array,
) -> Array:
    """Within 10 % of the truth, up to three times its size away, or where all points are off."""
    p = len(truth)
    if kind == "near":
        return truth + 0.1 * sizes * rng.normal(size=p)
    best, most = truth, -1.0
    for reach in np.geomspace(1, 100, 20) if kind == "all outliers" else [3.0]:
        start = truth + reach * sizes * rng.uniform(-1, 1, p)
        if family.jax is exponentials_jax:
            start[1::2] = truth[1::2] * 3 ** rng.uniform(-1, 1, p // 2)
        if family.jax is peaks_jax:
            # Within the data, and neither flat nor between two points.
            start[1 : p - 1 : 3] = rng.uniform(1, 9, p // 3)
            start[2::3][: p // 3] = truth[2::3][: p // 3] * 3 ** rng.uniform(-1, 1, p // 3)
        values = family.numpy(x, start)[0]
        off = float(np.mean(np.abs(values - y) > 10 * sigma))
        if np.all(np.isfinite(values)) and off > most:
            best, most = start, off
    return best


# One fit, and SciPy's.


def by_scipy(problem: Problem, start: Array) -> dict[str, Any]:
    """SciPy's fit, the parameters with equal bounds taken out."""
    free = problem.upper > problem.lower
    whole = np.clip(start, problem.lower, problem.upper)

    def complete(part: Array) -> Array:
        full = whole.copy()
        full[free] = part
        return full

    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            found = least_squares(
                lambda part: problem.rows(complete(part))[0],
                whole[free],
                jac=lambda part: problem.rows(complete(part))[1][:, free],
                bounds=(problem.lower[free], problem.upper[free]),
                method="trf",
                tr_solver="exact",
                x_scale="jac",
                loss=problem.loss,
                ftol=1e-15,
                xtol=1e-15,
                gtol=1e-15,
                max_nfev=SCIPY_NFEV,
            )
        x, nfev, end = complete(found.x), int(found.nfev), int(found.status)
    except (ValueError, np.linalg.LinAlgError) as error:
        return {"cost": np.inf, "nfev": 0, "status": str(error)}
    return {"cost": problem.cost(x), "nfev": nfev, "status": end, "left": problem.left(x)}


def run(case: tuple[str, str, int]) -> dict[str, Any]:
    """Fit the problem of (loss, bounds, seed), and have SciPy fit it."""
    # The matrices are narrow: threads of the linear algebra would only wait for each other.
    with threadpool_limits(1, user_api="blas"):
        return run_here(case)


def run_here(case: tuple[str, str, int]) -> dict[str, Any]:
    from nlsq_stratified import curve_fit_large

    loss, bounds, seed = case
    problem = draw(loss, bounds, seed)
    row: dict[str, Any] = {"case": f"{loss}:{bounds}:{seed}", **problem.about}
    row["convex"] = problem.convex
    same = by_scipy(problem, problem.start)
    row["scipy"] = same
    began = time.perf_counter()
    try:
        with warnings.catch_warnings(record=True):
            warnings.simplefilter("always")
            fit: Any = curve_fit_large(
                problem.family.jax,
                problem.x,
                problem.y,
                p0=problem.start,
                sigma=problem.sigma,
                bounds=(problem.lower, problem.upper),
                loss=loss,
                chunks=len(problem.y) // CHUNKS,
            )
    except Exception as error:  # noqa: BLE001 (whatever a fit raises is what this counts)
        said = f"{type(error).__name__}: {error}"
        return {**row, "exception": said, "traceback": traceback.format_exc()}
    x = np.asarray(fit.x)
    onwards = by_scipy(problem, x)
    cost = problem.cost(x)
    best = min(cost, same["cost"], onwards["cost"])
    variance = 2 * best / max(1, len(problem.y) - len(x))
    residual, _ = problem.rows(x)
    left = problem.left(x)
    return row | {
        "success": bool(fit.success),
        "message": fit.message,
        "seconds": time.perf_counter() - began,
        "nfev": int(fit.nfev),
        "x": x.tolist(),
        "start values": problem.start.tolist(),
        "bounds": [problem.lower.tolist(), problem.upper.tolist()],
        "moved": bool(np.any(x != problem.start)),
        "cost": cost,
        "reported cost": float(fit.cost),
        "onwards": onwards,
        "inliers": float(np.mean(residual**2 <= 1)),
        "active": int(np.count_nonzero((x <= problem.lower) | (x >= problem.upper))),
        "left": left,
        "gained": problem.gained(x) if left > STATIONARY else 0.0,
        "above": float(np.sqrt(2 * (cost - best) / variance)),
    }


# Counts and tables.


def distance(row: dict[str, Any]) -> float:
    """What is left, or less where no step gains that: two exponentials of one rate are a ridge."""
    left = row.get("left", np.inf)
    return left if left <= STATIONARY else min(left, row.get("gained", np.inf))


def _stationary(row: dict[str, Any]) -> bool:
    return distance(row) <= STATIONARY


def _above(row: dict[str, Any]) -> bool:
    return row.get("above", 0.0) > ABOVE


def _success(row: dict[str, Any]) -> bool:
    return row.get("success", False)


VERDICTS: dict[str, Callable[[dict[str, Any]], bool]] = {
    "success": _success,
    "not stationary": lambda row: _success(row) and not _stationary(row),
    "convex, above SciPy": lambda row: _success(row) and row["convex"] and _above(row),
    "other minimum": lambda row: (
        _success(row) and not row["convex"] and _stationary(row) and _above(row)
    ),
    "start returned": lambda row: _success(row) and not row["moved"] and not _stationary(row),
    "not converged": lambda row: row.get("success") is False,
    "exceptions": lambda row: "exception" in row,
    "wrong cost": lambda row: (
        "cost" in row and abs(row["cost"] - row["reported cost"]) > 1e-9 * row["cost"]
    ),
}
FAILING = [name for name in VERDICTS if name not in ("success", "other minimum")]


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table in Markdown."""
    for row in (header, ["---"] * len(header), *rows):
        print("|", " | ".join(row), "|")


def counts(title: str, rows: list[dict[str, Any]], key: Callable[[dict[str, Any]], str]) -> None:
    """Verdicts by something."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    lines = []
    for name, own in {**groups, "all": rows}.items():
        ended = [row for row in own if _success(row)]
        lines.append(
            [
                name,
                str(len(own)),
                *(str(sum(map(holds, own)) or "") for holds in VERDICTS.values()),
                f"{max(map(distance, ended), default=0):.2g}",
                f"{max((row['above'] for row in ended if row['convex']), default=0):.2g}",
                f"{np.median([row['nfev'] for row in own if 'nfev' in row] or [0]):.0f}",
                f"{np.median([row['scipy']['nfev'] for row in own]):.0f}",
            ]
        )
    header = [title, "fits", *VERDICTS, "most left", "most above, convex"]
    table([*header, "evaluations", "SciPy's"], lines)
    print()


def report(rows: list[dict[str, Any]]) -> None:
    """Tables, and the failing cases."""
    counts("loss, bounds", rows, lambda row: ", ".join(row["case"].split(":")[:2]))
    counts("loss", rows, lambda row: row["case"].split(":")[0])
    counts("bounds", rows, lambda row: row["case"].split(":")[1])
    counts("start", rows, lambda row: row["start"])
    counts("model", rows, lambda row: row["family"])
    print("Failing cases (--only CASE; left and above in standard errors):\n")
    lines = []
    for row in rows:
        names = [name for name in FAILING if VERDICTS[name](row)]
        if names:
            said = row.get("exception") or row["message"]
            lines.append(
                [
                    row["case"],
                    f"{row['family']}, p = {row['p']}, {row['start']}",
                    ", ".join(names),
                    f"{row.get('left', np.nan):.2g} / {row.get('gained', np.nan):.2g}",
                    f"{row.get('above', np.nan):.2g}",
                    f"{row.get('cost', np.nan):.6g}",
                    f"{row['scipy']['cost']:.6g}",
                    f"{row.get('onwards', row['scipy'])['cost']:.6g}",
                    str(row.get("nfev", "")),
                    said.replace("\n", " ")[:100],
                ]
            )
    header = [
        "case",
        "model, start",
        "what",
        "left / gained",
        "above",
        "cost",
        "SciPy's",
        "from ours",
    ]
    table([*header, "evaluations", "message"], lines)


def compare(before: list[dict[str, Any]], after: list[dict[str, Any]]) -> None:
    """Counts of the cases that both have, and which ones are new."""
    earlier = {row["case"]: row for row in before}
    pairs = [(earlier[row["case"]], row) for row in after if row["case"] in earlier]
    print(f"\n{len(pairs)} cases before and after:\n")
    lines = []
    for name, holds in VERDICTS.items():
        was, now = (sum(holds(pair[i]) for pair in pairs) for i in (0, 1))
        new = " ".join(a["case"] for b, a in pairs if holds(a) and not holds(b))
        lines.append([name, str(was), str(now), new if name in FAILING else ""])
    table(["", "before", "after", "new"], lines)
    counted = [(b["nfev"], a["nfev"]) for b, a in pairs if "nfev" in a and "nfev" in b]
    was, now = np.sum(counted, axis=0)
    ratios = [now / was for was, now in counted]
    print(f"\nEvaluations after / before: median {np.median(ratios):.2f}, in all {now / was:.2f}")


def main() -> None:
    """Run all fits and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=35, help="of each loss and kind of bounds")
    parser.add_argument("--first", type=int, default=0, help="first seed")
    parser.add_argument("--losses", nargs="*", default=list(LOSSES), choices=LOSSES)
    parser.add_argument("--bounds", nargs="*", default=list(BOUNDS), choices=BOUNDS)
    parser.add_argument("--only", nargs="*", metavar="LOSS:BOUNDS:SEED")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--json", type=Path, help="all rows")
    parser.add_argument("--read", type=Path, help="print the tables of such a file")
    parser.add_argument("--compare", type=Path, help="rows of an earlier run")
    options = parser.parse_args()
    if options.read:
        rows = json.loads(options.read.read_text("utf-8"))
    else:
        cases = [
            (loss, bounds, seed)
            for loss in options.losses
            for bounds in options.bounds
            for seed in range(options.first, options.first + options.seeds)
        ]
        if options.only:
            parts = [case.split(":") for case in options.only]
            cases = [(loss, bounds, int(seed)) for loss, bounds, seed in parts]
        rows = []
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(options.workers, mp_context=context) as pool:
            for row in pool.map(run, cases, chunksize=1):
                rows.append(row)
                print(f"\r{len(rows)}/{len(cases)}", end="", file=sys.stderr, flush=True)
    if options.json:
        options.json.write_text(json.dumps(rows), "utf-8")
    report(rows)
    if options.only:
        for row in rows:
            print("\n" + json.dumps(row, indent=1))
            print(row.get("traceback", ""))
    if options.compare:
        compare(json.loads(options.compare.read_text("utf-8")), rows)


if __name__ == "__main__":
    main()
