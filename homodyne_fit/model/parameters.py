"""The physical and scaling parameters: names, units, bounds and starts that need no data."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ALIASES", "DIFFUSION", "PARAMETERS", "RATES", "SCALING", "SHEAR", "Parameter"]


@dataclass(frozen=True)
class Parameter:
    """One parameter of the model.

    Attributes
    ----------
    name, unit : str
    bounds : (float, float) or None
        Lower and upper bound when none are given; None where they come from the measurement, see
        `homodyne_fit.fitting.default_bounds`.
    start : float or None
        Start when none is given; None where it comes from the data.
    meaning : str
        In words, for reports and commented configuration files.
    """

    name: str
    unit: str
    bounds: tuple[float, float] | None
    start: float | None
    meaning: str


PARAMETERS = {
    parameter.name: parameter
    for parameter in (
        Parameter("D0", "Å²/s", None, None, "transport coefficient, prefactor"),
        Parameter("alpha", "", (-2.0, 2.0), 0.0, "transport coefficient, exponent of time"),
        Parameter("D_offset", "Å²/s", None, 0.0, "transport coefficient, constant part"),
        Parameter("gamma_dot_t0", "1/s", None, None, "shear rate, prefactor"),
        Parameter("beta", "", (-2.0, 2.0), 0.0, "shear rate, exponent of time"),
        Parameter("gamma_dot_t_offset", "1/s", None, 0.0, "shear rate, constant part"),
        Parameter("phi0", "°", (-10.0, 10.0), 0.0, "direction of the flow"),
        Parameter("contrast", "", (0.0, 1.0), None, "speckle contrast of an angle"),
        Parameter("offset", "", (0.5, 1.5), None, "baseline of an angle"),
    )
}

# Other spellings; the last three are of older generations of homodyne.
ALIASES = {
    "gamma_dot_0": "gamma_dot_t0",
    "gamma0": "gamma_dot_t0",
    "gamma_dot_offset": "gamma_dot_t_offset",
    "gamma_offset": "gamma_dot_t_offset",
}

# The two that every angle has of its own.
SCALING = ("contrast", "offset")

# Prefactor, exponent and constant part of the two rates; a sample without flow has the first only.
DIFFUSION = ("D0", "alpha", "D_offset")
SHEAR = ("gamma_dot_t0", "beta", "gamma_dot_t_offset")

# Names of these rates.
RATES = ("J", "gamma_dot")
