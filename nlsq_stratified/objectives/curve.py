"""Sums of a curve fit: any JAX model ``f(x, *params)`` against y, weighted by sigma."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike, NDArray

from nlsq_stratified.normal_equations import FactoredEquations
from nlsq_stratified.objectives.loss import LOSSES, robust
from nlsq_stratified.objectives.portable import Portable
from nlsq_stratified.programs import Traced

__all__ = [
    "CurveObjective",
    "ModelObjective",
    "ResidualAndJacobian",
    "counted_rows",
    "padded_length",
    "triangular_sums",
]

type Chunk = tuple[NDArray[Any], ...]

# Largest difference of two values of a model, relative to the largest one, that is rounding.
SAME = 1e-9


class ResidualAndJacobian:
    """``(f - y) / sigma`` (N,) and its derivatives by the parameters (N, p), compiled.

    Parameters
    ----------
    f : callable
        ``f(x, *params) -> y``; its compiled code lives as long as this object.
    jac : callable, optional
        ``jac(x, *params)``, the derivatives of f (N, p); JAX's forward mode when None.
    """

    def __init__(self, f: Callable[..., Any], jac: Callable[..., Any] | None = None) -> None:
        def values(params: jax.Array, x: Any, y: jax.Array | None) -> jax.Array:
            with jax_in_words("model"):
                f_x = _real("model", f(x, *params))
            if y is not None and f_x.ndim == 0:
                f_x = jnp.broadcast_to(f_x, y.shape)
            if y is not None and f_x.shape != y.shape:
                raise ValueError(f"the model returned shape {f_x.shape} for y of shape {y.shape}")
            return f_x

        def residual(
            params: jax.Array, x: Any, y: jax.Array | None, sigma: jax.Array | None
        ) -> jax.Array:
            f_x = values(params, x, y)
            difference = f_x if y is None else f_x - y
            return difference if sigma is None else difference / sigma

        def jacobian(
            params: jax.Array, x: Any, y: jax.Array | None, sigma: jax.Array | None
        ) -> jax.Array:
            if jac is None:
                derivatives = jax.jacfwd(values)(params, x, y)
            else:
                with jax_in_words("jac"):
                    derivatives = _real("jac", jac(x, *params))
                expected = (*(derivatives if y is None else y).shape[:1], *params.shape)
                if derivatives.shape != expected:
                    raise ValueError(f"jac returned shape {derivatives.shape}, not {expected}")
            return derivatives if sigma is None else derivatives / sigma[:, None]

        # Two separate programs: in one program, or in one with the factorisation, XLA stores the
        # Jacobian by columns and evaluates the model once for each column, four times as slow for
        # 50 parameters.
        self.residual, self._jacobian = Traced(residual), Traced(jacobian)

    def __call__(
        self,
        params: jax.Array,
        x: Any,
        y: jax.Array | None = None,
        sigma: jax.Array | None = None,
    ) -> tuple[jax.Array, jax.Array]:
        """Residual and Jacobian of some points; without y it is 0, without sigma it is 1."""
        return self.residual(params, x, y, sigma), self._jacobian(params, x, y, sigma)


@contextlib.contextmanager
def jax_in_words(name: str) -> Iterator[None]:
    """Say what the caller's function has to do otherwise, if JAX can't trace it."""
    try:
        yield
    except jax.errors.TracerArrayConversionError as error:
        advice = "calls NumPy or SciPy, which JAX can't trace: use jax.numpy and jax.scipy in it"
        raise TypeError(f"the {name} {advice}") from error
    except (jax.errors.TracerBoolConversionError, jax.errors.NonConcreteBooleanIndexError) as error:
        advice = (
            "depends on a condition by if, while, and, or, or a boolean index, which JAX can't "
            "trace: use jax.numpy.where in it"
        )
        raise TypeError(f"the {name} {advice}") from error
    except (jax.errors.ConcretizationTypeError, jax.errors.TracerIntegerConversionError) as error:
        advice = (
            "makes a Python number of an argument, by float, int or the module math, which JAX "
            "can't trace: use jax.numpy in it"
        )
        raise TypeError(f"the {name} {advice}") from error


def _real(name: str, values: Any) -> jax.Array:
    """Values that the caller's function has returned, in double precision."""
    if jnp.iscomplexobj(values):
        raise ValueError(
            f"the {name} returned complex numbers: return real and imaginary parts as "
            "separate points"
        )
    return jnp.asarray(values, jnp.float64)


class ModelObjective(Portable):
    """Base of the objectives with a model f: evaluates the model."""

    rows: ResidualAndJacobian
    pad: bool = False

    def values(
        self, params: NDArray[np.float64], x: ArrayLike, n_points: int | None = None
    ) -> NDArray[np.float64]:
        """The model at the points of x, (n,); see `curve`."""
        if n_points is not None and self.pad:
            x, length = filled_up(np.asarray(x), n_points)
            return self._values(params, x, length)[:n_points]
        return self._values(params, x, n_points)

    def _values(
        self, params: NDArray[np.float64], x: ArrayLike, n_points: int | None
    ) -> NDArray[np.float64]:
        with jax.enable_x64(True):
            zeros = _zeros_for(x, n_points)
            return jax.device_get(self.rows.residual(*self._arguments(params, x), zeros, None))

    def curve(
        self, params: NDArray[np.float64], x: ArrayLike, n_points: int | None = None
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The model at the points of x, (n,), and its derivatives (n, p).

        The number of points is needed if x has several features and the model returns a number.
        """
        with jax.enable_x64(True):
            zeros = _zeros_for(x, n_points)
            return jax.device_get(self.rows(*self._arguments(params, x), zeros))

    def padded(self, params: NDArray[np.float64], chunk: Chunk) -> Chunk:
        """A chunk with copies of its last point, up to the next `padded_length`.

        Raises
        ------
        ValueError
            If the model at the points of the first such chunk is another one with the copies.
        """
        x, y, *_ = chunk
        n_points = len(y)
        first, length = filled_up(x, n_points)
        if length == n_points:
            return chunk
        copies = length - n_points
        padded = first, *(np.pad(array, (0, copies), mode="edge") for array in chunk[1:])
        if "_computes_points" not in self.__dict__:
            self.__dict__["_computes_points"] = True
            values = self._values(params, x, n_points)
            others = self._values(params, first, length)[:n_points]
            scale = np.max(np.abs(values), initial=0.0)
            if not np.allclose(values, others, rtol=0, atol=SAME * scale, equal_nan=True):
                raise ValueError(
                    "the model at a point depends on the other points of its chunk: such a model "
                    "needs preserve_chunks=True"
                )
        return padded

    def whitened(self, residual: NDArray[np.float64]) -> NDArray[np.float64]:
        """The residuals of the cost, from those of all points divided by sigma."""
        return residual

    def _arguments(self, params: NDArray[np.float64], x: ArrayLike) -> tuple[Any, Any]:
        """The arguments of `rows` for parameters (p,) and x."""
        return jnp.asarray(params, jnp.float64), jnp.asarray(x, jnp.float64)


def padded_length(n_points: int) -> int:
    """The least 4, 5, 6 or 7 times a power of two that is not below the number of points."""
    unit = 1 << max(0, (n_points - 1).bit_length() - 3)
    return max(4, -(-n_points // unit) * unit)


def filled_up(x: NDArray[Any], n_points: int) -> tuple[NDArray[Any], int]:
    """x with copies of its last point up to a `padded_length`, and this length."""
    copies = padded_length(n_points) - n_points
    # In a square x, the axis of the points is not known.
    if n_points == 0 or (x.ndim > 1 and x.shape[0] == x.shape[-1]):
        return x, n_points
    axis = x.ndim - 1 if x.shape[-1] == n_points else 0
    widths = [(0, copies * (i == axis)) for i in range(x.ndim)]
    return np.pad(x, widths, mode="edge"), n_points + copies


def _zeros_for(x: ArrayLike, n_points: int | None) -> jax.Array | None:
    """A y of zeros for the points of x, of which the residual is the model."""
    if n_points is None and np.ndim(x) == 1:
        n_points = len(np.asarray(x))
    return None if n_points is None else jnp.zeros(n_points)


@dataclass(frozen=True, eq=False)
class CurveObjective(ModelObjective):
    """Least squares of ``(f(x, *params) - y) / sigma``, plain or robust.

    A chunk is a tuple ``(x, y)`` or ``(x, y, sigma)``; the model is called once on exactly the
    x of each chunk. All arithmetic is float64.

    Parameters
    ----------
    f : callable
        ``f(x, *params) -> y`` in jax.numpy operations. Picklable if chunks are to be summed in
        other processes.
    loss : str
        One of `nlsq_stratified.objectives.loss.LOSSES`.
    f_scale : float
        Residual, in units of sigma, beyond which a robust loss counts a point as an outlier.
    jac : callable, optional
        ``jac(x, *params)``, the derivatives of f, (N, p), in jax.numpy operations; JAX's forward
        mode when None.
    pad : bool
        Call the model on chunks that are filled up to one of a few lengths, with copies of the last
        point that do not count. It must compute each point by itself.
    """

    f: Callable[..., Any]
    loss: str = "linear"
    f_scale: float = 1.0
    jac: Callable[..., Any] | None = None
    pad: bool = False
    rows: ResidualAndJacobian = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "rows", ResidualAndJacobian(self.f, self.jac))

    def chunk_sums(
        self, params: NDArray[np.float64], chunk: tuple[NDArray[Any], ...]
    ) -> FactoredEquations:
        """Cost and triangular factor of one chunk at `params` (p,)."""
        n_points = len(chunk[1])
        x, *others = self.padded(params, chunk) if self.pad else chunk
        with jax.enable_x64(True):
            arrays = (jnp.asarray(array, jnp.float64) for array in others)
            rows = self.rows(*self._arguments(params, x), *arrays)
            sums = triangular_sums(self.loss, self.f_scale, n_points, *rows)
            cost, triangle, majorant = jax.device_get(sums)
        return FactoredEquations(float(cost), triangle, n_points, majorant)

    def normal_equations(
        self, params: NDArray[np.float64], sums: FactoredEquations
    ) -> FactoredEquations:
        """The sums themselves, which are the normal equations already."""
        return sums


def counted_rows(
    n_points: int, residual: jax.Array, jacobian: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Residual and Jacobian with zeros in the rows after the first `n_points`."""
    counts = jnp.arange(len(residual)) < n_points
    return jnp.where(counts, residual, 0.0), jnp.where(counts[:, None], jacobian, 0.0)


@functools.partial(jax.jit, static_argnums=0)
def triangular_sums(
    loss: str, f_scale: float, n_points: int, residual: jax.Array, jacobian: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Sums of `FactoredEquations`: cost, triangle and majorant, reweighted for a robust loss.

    Only the first `n_points` rows count.
    """
    residual, jacobian = counted_rows(n_points, residual, jacobian)
    cost, majorant = 0.5 * residual @ residual, (jacobian**2).sum(axis=0)
    if (function := LOSSES[loss]) is not None:
        cost, residual_factor, jacobian_factor, slope = robust(function, f_scale, residual)
        majorant = slope @ jacobian**2
        residual, jacobian = residual * residual_factor, jacobian * jacobian_factor[:, None]
    # With rows of zeros, a chunk may have fewer points than the triangle has rows.
    columns = jnp.concatenate([jacobian, residual[:, None]], axis=1)
    padding = jnp.zeros((columns.shape[1], columns.shape[1]))
    return cost, jnp.linalg.qr(jnp.concatenate([columns, padding]), mode="r"), majorant
