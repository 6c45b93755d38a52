"""The optional part of the package that posteriors need."""

from __future__ import annotations

from importlib.util import find_spec

from homodyne_fit.errors import InputError

__all__ = ["require_extra"]

# Modules of the optional part `mcmc`.
MODULES = ("arviz_base", "arviz_stats", "h5netcdf", "numpyro")


def require_extra() -> None:
    """Raise an `InputError` if the optional part is not installed."""
    missing = [name for name in MODULES if find_spec(name) is None]
    if missing:
        raise InputError(
            f"a posterior needs {', '.join(missing)}, not installed here; "
            "pip install 'homodyne_fit[mcmc]'"
        )
