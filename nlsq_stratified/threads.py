"""Threads of the linear algebra."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

__all__ = ["one_blas_thread"]


def one_blas_thread() -> AbstractContextManager[object]:
    """Limit NumPy's linear algebra to one thread; without threadpoolctl, do nothing.

    The matrices of a fit are narrow: more threads would only wait for each other.
    """
    try:
        from threadpoolctl import threadpool_limits
    except ImportError:
        return nullcontext()
    return threadpool_limits(1, user_api="blas")
