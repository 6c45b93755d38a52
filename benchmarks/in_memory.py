"""What a user of SciPy or NLSQ writes: the model in JAX, all points in memory, one call.

The model is that of homodyne's code: sin(x)/x to the fourth power. The 7 physical parameters
start where the configuration says; contrast and offset of each angle, which it does not name,
start at what c2 is at the longest and shortest lags. The solvers have their default tolerances,
and SciPy's scales the parameters by the Jacobian, without which it does not leave the start.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import h5py
import jax
import jax.numpy as jnp
import numpy as np
import yaml

EDGE = 20  # frames: c2 at lags below is near offset + contrast, at lags above n − EDGE near offset


def fit(solver: str, config: str) -> dict[str, Any]:
    """Fit with 'scipy' or 'nlsq'; what the program found, as `benchmarks/peers.py` wants it."""
    jax.config.update("jax_enable_x64", True)
    with open(config, encoding="utf-8") as file:
        settings = yaml.safe_load(file)
    c2, phi = read(settings["experimental_data"]["file_path"])
    analyzer = settings["analyzer_parameters"]
    model, points = two_time_model(
        len(c2[0]),
        phi,
        analyzer["dt"],
        analyzer["scattering"]["wavevector_q"],
        analyzer["geometry"]["stator_rotor_gap"],
    )
    y = jnp.asarray(np.concatenate([matrix[points] for matrix in c2]))
    physics = settings["initial_parameters"]["values"]
    start = np.concatenate([*scaling_at_start(c2), physics])
    values, covariance, converged, message = {"scipy": with_scipy, "nlsq": with_nlsq}[solver](
        model, y, start
    )
    return {
        "phi": phi.tolist(),
        "n_frames": len(c2[0]),
        "mean_c2": [float(np.mean(matrix[points])) for matrix in c2],
        "values": values.tolist(),
        "errors": np.sqrt(np.diag(covariance)).tolist(),
        "covariance": covariance.tolist(),
        "converged": converged,
        "message": message,
        "mode_used": None,
        "passes": None,
    }


def read(path: str) -> tuple[np.ndarray, np.ndarray]:
    """Matrices (K, n, n) and angles (K,), degrees, of an APS-U file with one q."""
    with h5py.File(path) as file:
        group = file["xpcs/twotime/correlation_map"]
        c2 = np.stack([group[name][()] for name in sorted(group)]).astype(float)
        return c2, file["xpcs/qmap/dynamic_v_list_dim1"][()]


def scaling_at_start(c2: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Contrasts and offsets (K,) to start from."""
    n = c2.shape[1]
    far = c2[:, *np.triu_indices(n, n - EDGE)].mean(axis=1)
    near = np.diagonal(c2, 1, axis1=1, axis2=2).mean(axis=1)
    return near - far, far


def two_time_model(
    n: int, phi: np.ndarray, dt: float, q: float, gap: float
) -> tuple[Callable[[jax.Array], jax.Array], tuple[np.ndarray, np.ndarray]]:
    """c2 of all points t1 < t2, angle by angle, as a function of the parameters; and the points."""
    points = np.triu_indices(n, 1)
    i, j = map(jnp.asarray, points)
    times = jnp.maximum(jnp.arange(n) * dt, dt / 2)

    def integral(p: jax.Array) -> jax.Array:
        rate = p[0] * times ** p[1] + p[2]
        return jnp.concatenate([jnp.zeros(1), jnp.cumsum((rate[1:] + rate[:-1]) / 2 * dt)])

    def model(parameters: jax.Array) -> jax.Array:
        contrast, offset, p = jnp.split(parameters, [len(phi), 2 * len(phi)])
        transport, flow = integral(p[:3]), integral(p[3:6])
        g1 = jnp.exp(-(q**2) * (transport[j] - transport[i]))
        shear = q * gap / (2 * jnp.pi) * jnp.cos(jnp.deg2rad(p[6] - phi))
        x = shear[:, None] * (flow[j] - flow[i])
        c2 = offset[:, None] + contrast[:, None] * g1 * jnp.sinc(x / jnp.pi) ** 4
        return c2.ravel()

    return model, points


def with_scipy(
    model: Callable[[jax.Array], jax.Array], y: jax.Array, start: np.ndarray
) -> tuple[np.ndarray, np.ndarray, bool, str]:
    """`scipy.optimize.least_squares` with JAX's Jacobian."""
    from scipy.optimize import least_squares

    residuals = jax.jit(lambda p: model(p) - y)
    jacobian = jax.jit(jax.jacfwd(model))
    found = least_squares(
        lambda p: np.asarray(residuals(p)),
        start,
        lambda p: np.asarray(jacobian(p)),
        x_scale="jac",
    )
    variance = 2 * found.cost / (len(y) - len(start))
    covariance = variance * np.linalg.inv(found.jac.T @ found.jac)
    return found.x, covariance, bool(found.success), found.message


def with_nlsq(
    model: Callable[[jax.Array], jax.Array], y: jax.Array, start: np.ndarray
) -> tuple[np.ndarray, np.ndarray, bool, str]:
    """NLSQ's `curve_fit`, plain: all points at once."""
    import nlsq

    found = nlsq.curve_fit(
        lambda x, *p: model(jnp.stack(p)), jnp.arange(len(y), dtype=float), y, start
    )
    values, covariance = map(np.asarray, found)
    return values, covariance, bool(np.isfinite(covariance).all()), "curve_fit returned"
