"""The optional part of the package that posteriors need."""

from __future__ import annotations

from importlib.util import find_spec

from homodyne_fit.errors import InputError

__all__ = ["require_extra"]

# Modules of the optional part `mcmc`, and the packages that they come with. To install the part by
# its name would also install what nlsq asks for and does not need.
PACKAGES = {
    "arviz_base": "arviz",
    "arviz_stats": "arviz",
    "h5netcdf": "h5netcdf",
    "numpyro": "numpyro",
}


def require_extra() -> None:
    """Raise an `InputError` if the optional part is not installed."""
    missing = dict.fromkeys(PACKAGES[name] for name in PACKAGES if find_spec(name) is None)
    if missing:
        raise InputError(
            f"a posterior needs {', '.join(missing)}, not installed here; "
            f"pip install {' '.join(missing)}"
        )
