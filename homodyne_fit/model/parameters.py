"""The physical and scaling parameters: names, units, default bounds and starts."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ALIASES", "DIFFUSION", "PARAMETERS", "SCALING", "Parameter"]


@dataclass(frozen=True)
class Parameter:
    """One parameter of the model.

    Attributes
    ----------
    name, unit : str
    lower, upper : float
        Default bounds.
    start : float or None
        Start when none is given; None where it comes from the data.
    meaning : str
        In words, for reports and commented configuration files.
    """

    name: str
    unit: str
    lower: float
    upper: float
    start: float | None
    meaning: str


PARAMETERS = {
    parameter.name: parameter
    for parameter in (
        Parameter("D0", "Å²/s", 100.0, 1e5, None, "transport coefficient, prefactor"),
        Parameter("alpha", "", -2.0, 2.0, 0.0, "transport coefficient, exponent of time"),
        Parameter("D_offset", "Å²/s", -1e5, 1e5, 0.0, "transport coefficient, constant part"),
        Parameter("gamma_dot_t0", "1/s", 1e-6, 0.5, None, "shear rate, prefactor"),
        Parameter("beta", "", -2.0, 2.0, 0.0, "shear rate, exponent of time"),
        Parameter("gamma_dot_t_offset", "1/s", -0.1, 0.1, 0.0, "shear rate, constant part"),
        Parameter("phi0", "°", -10.0, 10.0, 0.0, "direction of the flow"),
        Parameter("contrast", "", 0.0, 1.0, None, "speckle contrast of an angle"),
        Parameter("offset", "", 0.5, 1.5, None, "baseline of an angle"),
    )
}

ALIASES = {"gamma_dot_0": "gamma_dot_t0"}

# The two that every angle has of its own.
SCALING = ("contrast", "offset")

# What a sample without flow is described by; a sheared one has all.
DIFFUSION = ("D0", "alpha", "D_offset")
