"""Laws that a user wrote for JAX, with the derivatives that JAX finds."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from homodyne_fit.model.rates import RateFunction
from nlsq_stratified.programs import Traced

__all__ = ["UserLaw"]

Floats = NDArray[np.float64]


class UserLaw:
    """A user's law, which is traced once for each number of times and then stays as it is.

    Parameters
    ----------
    law : callable
    """

    def __init__(self, law: RateFunction) -> None:
        self.law = law
        self.__name__ = getattr(law, "__name__", type(law).__name__)
        self._program = Traced(functools.partial(_with_slopes, law))

    def __call__(self, t: jax.Array, tau: Any, p: Sequence[Any]) -> jax.Array:
        """The value, as JAX's own functions take it."""
        return self.law(t, tau, p)

    def __eq__(self, other: object) -> bool:
        return bool(self.law == (other.law if isinstance(other, UserLaw) else other))

    def __hash__(self) -> int:
        # A user's law may have no hash.
        return hash(self.__name__)

    def __reduce__(self) -> Any:
        # Compiled code stays in its process.
        return UserLaw, (self.law,)

    def with_slopes(self, t: Floats, tau: float, p: Floats) -> Floats:
        """Value and derivatives at times (n,) and parameters (s, a): (1 + a, s, n)."""
        with jax.enable_x64(True):
            found = [self._program(t, np.float64(tau), each) for each in p]
        return np.stack(found, axis=1)


def _with_slopes(law: RateFunction, t: jax.Array, tau: jax.Array, p: jax.Array) -> jax.Array:
    def values(p: jax.Array) -> tuple[jax.Array, jax.Array]:
        of_times = jnp.broadcast_to(law(t, tau, list(p)), t.shape)
        return of_times, of_times

    slopes, value = jax.jacfwd(values, has_aux=True)(p)
    return jnp.concatenate([value[None], slopes.T])
