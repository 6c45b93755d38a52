r"""Loss functions of robust least squares.

The cost is :math:`\tfrac12 s^2 \sum_i \rho(z_i)`, :math:`z = (r/s)^2`, with s the scale beyond
which a residual r counts as an outlier. Each function returns ρ, ρ' and ρ'' at z; names and
definitions are those of ``scipy.optimize.least_squares``, which NLSQ shares.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

__all__ = ["LOSSES", "robust"]

# Smallest curvature of the cost at an outlier, relative to the curvature of its majorant. It
# hardly changes the curvature at a minimum, and dividing residuals by its root loses no digits.
LEAST_CURVATURE = 1e-6

Loss = Callable[[jax.Array], tuple[jax.Array, jax.Array, jax.Array]]


def huber(z: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """z up to 1, ``2 √z - 1`` beyond."""
    inside = z <= 1
    root = jnp.sqrt(jnp.where(inside, 1.0, z))
    return (
        jnp.where(inside, z, 2 * root - 1),
        jnp.where(inside, 1.0, 1 / root),
        jnp.where(inside, 0.0, -0.5 / root**3),
    )


def soft_l1(z: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """``2 (√(1 + z) - 1)``."""
    root = jnp.sqrt(1 + z)
    return 2 * z / (root + 1), 1 / root, -0.5 / root**3


def cauchy(z: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """``ln(1 + z)``."""
    return jnp.log1p(z), 1 / (1 + z), -1 / (1 + z) ** 2


def arctan(z: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """``arctan z``."""
    t = 1 + z**2
    return jnp.arctan(z), 1 / t, -2 * z / t**2


LOSSES: dict[str, Loss | None] = {
    "linear": None,
    "soft_l1": soft_l1,
    "huber": huber,
    "cauchy": cauchy,
    "arctan": arctan,
}


def robust(
    loss: Loss, scale: float, residual: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Cost, and factors for residual and Jacobian that make a least-squares problem of it.

    With ``w = √max(ρ' + 2 z ρ'', κ ρ')`` the Jacobian ``w J`` has the Gauss-Newton Hessian of the
    robust cost, and with it the residual ``(ρ'/w) r`` has its gradient (B. Triggs et al., *Bundle
    adjustment: a modern synthesis*, 2000, section 4.3). At outliers the cost curves little or
    downwards; κ keeps w above zero there. The Hessian of ``√ρ' J`` bounds the cost from above,
    since ρ is concave.

    Returns
    -------
    cost : scalar
    residual_factor, jacobian_factor : (N,) array
    slope : (N,) array
        ρ'.
    """
    z = (residual / scale) ** 2
    rho, slope, curvature = loss(z)
    w = jnp.sqrt(jnp.maximum(slope + 2 * z * curvature, LEAST_CURVATURE * slope))
    return 0.5 * scale**2 * rho.sum(), slope / w, w, slope
