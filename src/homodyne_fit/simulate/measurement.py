"""A simulated measurement: what is measured, how, and the truth written beside the file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from homodyne_fit.atomic import replacing
from homodyne_fit.errors import InputError, suggestion
from homodyne_fit.model import LAMINAR_FLOW, STATIC, Model, decay, rates
from homodyne_fit.simulate.speckle import two_time
from homodyne_fit.simulate.writers import write_aps_u

__all__ = ["Measurement", "from_first_principles", "from_formula", "write_measurement"]


@dataclass(frozen=True)
class Measurement:
    """A sample under flow and the geometry in which it is seen.

    Attributes
    ----------
    parameters : dict
        Physics, by the names of the laminar-flow model, or of the static one.
    q : float
        Å⁻¹.
    phi : tuple of float
        Degrees.
    gap : float
        Å.
    dt : float
        Seconds.
    n_frames : int
    """

    parameters: dict[str, float]
    q: float = 0.0054
    phi: tuple[float, ...] = (0.0, 30.0, 60.0, 90.0, 120.0, 150.0)
    gap: float = 2e6
    dt: float = 0.1
    n_frames: int = 200
    model: Model = field(init=False, repr=False)

    def __post_init__(self) -> None:
        model = STATIC if set(self.parameters) <= set(STATIC.parameters) else LAMINAR_FLOW
        object.__setattr__(self, "model", model)
        for name in self.parameters:
            if name not in model.parameters:
                raise InputError(
                    f"there is no parameter '{name}'{suggestion(name, model.parameters)}"
                )
        for name in model.parameters:
            if name not in self.parameters:
                raise InputError(f"the parameter {name} is needed for the {model.name} model")
        for name in ("q", "gap", "dt"):
            if not getattr(self, name) > 0:
                raise InputError(f"{name} must be positive, got {getattr(self, name):g}")
        if self.n_frames < 3:
            raise InputError(f"at least 3 frames are needed, got {self.n_frames}")

    @property
    def vector(self) -> NDArray[np.float64]:
        """Parameters (p,) in the order of the model."""
        return np.array([self.parameters[name] for name in self.model.parameters])

    @property
    def times(self) -> NDArray[np.float64]:
        """Time of each frame (n,), seconds."""
        return np.arange(self.n_frames) * self.dt

    def rates(self, times: NDArray[np.float64] | float) -> NDArray[np.float64]:
        """J in Å²/s and shear rate in 1/s at some times, (2, n)."""
        return rates(self.model, self.vector, times, self.times[-1] / 2, self.dt)[0]


def from_formula(
    measurement: Measurement,
    *,
    contrast: float | Sequence[float] = 0.3,
    offset: float | Sequence[float] = 1.0,
    noise: float = 0.05,
    seed: int = 0,
) -> NDArray[np.float32]:
    """Matrices (K, n, n) by the model's formula, with symmetric white noise.

    Parameters
    ----------
    contrast, offset : float or (K,) sequence
    noise : float
        Standard deviation of each point.
    """
    m, rng = measurement, np.random.default_rng(seed)
    contrasts, offsets = (np.broadcast_to(v, len(m.phi)) for v in (contrast, offset))
    c2 = np.empty((len(m.phi), m.n_frames, m.n_frames), dtype=np.float32)
    for k, phi in enumerate(m.phi):
        white = np.triu(rng.normal(0.0, noise, c2.shape[1:]))
        f = decay(m.model, m.vector, m.dt, m.n_frames, m.q, phi, m.gap)
        c2[k] = offsets[k] + contrasts[k] * f + white + np.triu(white, 1).T
    return c2


def from_first_principles(
    measurement: Measurement,
    *,
    pixels: int = 2000,
    modes: float = 3,
    mean_counts: float = 0.5,
    seed: int = 0,
) -> NDArray[np.float32]:
    """Matrices (K, n, n) of simulated speckle, counted photon by photon.

    Parameters
    ----------
    pixels : int
        In each bin.
    modes : float
        Incoherent modes; the contrast is near 1 / modes.
    mean_counts : float
        Photons in a pixel and frame.
    """
    m = measurement
    transport, shear_rate = m.rates(m.times)
    return two_time(
        seed,
        m.q,
        m.phi,
        m.parameters.get("phi0", 0.0),
        m.gap,
        m.dt,
        transport,
        shear_rate,
        pixels=pixels,
        modes=modes,
        mean_counts=mean_counts,
    )


def write_measurement(
    path: Path, measurement: Measurement, c2: NDArray[np.float32], **how: object
) -> Path:
    """Write an APS-U file, and ``<path>.truth.json`` beside it; return the path of the truth.

    Parameters
    ----------
    how : object
        What else to record about the simulation.
    """
    m = measurement
    write_aps_u(path, c2, [m.q], list(m.phi), np.arange(len(m.phi)), m.dt)
    truth = {
        "model": m.model.name,
        **{key: value for key, value in asdict(m).items() if key not in ("parameters", "model")},
        **m.parameters,
        **how,
    }
    beside = path.with_name(path.name + ".truth.json")
    with replacing(beside) as temporary:
        temporary.write_text(json.dumps(truth, indent=1) + "\n", encoding="utf-8")
    return beside
