"""A simulated measurement: what is measured, how, and the truth written beside the file."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from homodyne_fit.atomic import replacing
from homodyne_fit.data.formats.recognition import FORMATS
from homodyne_fit.data.storage.memory import available_memory, size_in_words
from homodyne_fit.errors import InputError, did_you_mean, suggestion
from homodyne_fit.model.parameters import ALIASES
from homodyne_fit.model.rates import LAMINAR_FLOW, STATIC, Model, decay, rates
from homodyne_fit.simulation.speckle import Experiment, two_time

__all__ = [
    "Measurement",
    "from_first_principles",
    "from_formula",
    "speckle_contrast",
    "truth_path",
    "write_measurement",
]

# Particles that each mode of each pixel sees, if not said otherwise.
PARTICLES = 32


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
        parameters = {ALIASES.get(name, name): value for name, value in self.parameters.items()}
        model = STATIC if set(parameters) <= set(STATIC.parameters) else LAMINAR_FLOW
        object.__setattr__(self, "parameters", parameters)
        object.__setattr__(self, "model", model)
        for name, value in parameters.items():
            if name not in model.parameters:
                near = did_you_mean(suggestion(name, model.parameters))
                near = near or f"; there are {', '.join(model.parameters)}"
                raise InputError(f"there is no parameter '{name}'{near}")
            if not math.isfinite(value):
                raise InputError(f"the parameter {name} must be finite, got {value:g}")
        for name in model.parameters:
            if name not in parameters:
                raise InputError(f"the parameter {name} is needed for the {model.name} model")
        for name in ("q", "gap", "dt"):
            if not (getattr(self, name) > 0 and math.isfinite(getattr(self, name))):
                raise InputError(f"{name} must be positive and finite, got {getattr(self, name):g}")
        if not self.phi or not all(map(math.isfinite, self.phi)):
            raise InputError(f"angles must be finite, got {list(self.phi)}")
        if self.n_frames < 3:
            raise InputError(f"at least 3 frames are needed, got {self.n_frames}")

    @property
    def vector(self) -> NDArray[np.float64]:
        """Parameters (p,) in the order of the model."""
        return np.array([self.parameters[name] for name in self.model.parameters])

    @property
    def times(self) -> NDArray[np.float64]:
        """Time of each frame (n,), seconds."""
        return np.arange(self.n_frames, dtype=np.float64) * self.dt

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
    m = measurement
    if seed < 0:
        raise InputError(f"seed must not be negative, got {seed}")
    if not (noise >= 0 and math.isfinite(noise)):
        raise InputError(f"noise must be finite and not negative, got {noise:g}")
    contrasts, offsets = _per_angle(m, "contrast", contrast), _per_angle(m, "offset", offset)
    # The matrices, and of one of them noise and decay in double precision.
    needed = m.n_frames**2 * (4 * len(m.phi) + 5 * 8)
    if needed > available_memory():
        raise InputError(
            f"{size_in_words(needed)} are needed to simulate {len(m.phi)} angles of {m.n_frames} "
            f"frames, and {size_in_words(available_memory())} are free; take fewer"
        )
    rng = np.random.default_rng(seed)
    c2 = np.empty((len(m.phi), m.n_frames, m.n_frames), dtype=np.float32)
    for k, phi in enumerate(m.phi):
        white = np.triu(rng.normal(0.0, noise, c2.shape[1:]))
        f = decay(m.model, m.vector, m.dt, m.n_frames, m.q, phi, m.gap)
        c2[k] = offsets[k] + contrasts[k] * f + white + np.triu(white, 1).T
    return c2


def _per_angle(m: Measurement, name: str, values: float | Sequence[float]) -> NDArray[np.float64]:
    column = np.atleast_1d(np.asarray(values, dtype=np.float64))
    if column.shape not in ((1,), (len(m.phi),)):
        raise InputError(
            f"{name} needs one value, or one for each of the {len(m.phi)} angles, not {column.size}"
        )
    if not np.all(np.isfinite(column)):
        raise InputError(f"{name} must be finite, got {column.tolist()}")
    return np.broadcast_to(column, len(m.phi))


def from_first_principles(
    measurement: Measurement,
    *,
    pixels: int = 2000,
    modes: ArrayLike = 3,
    mean_counts: float = 0.5,
    particles: int | None = PARTICLES,
    seed: int = 0,
    workers: int | None = None,
) -> NDArray[np.float32]:
    """Matrices (K, n, n) of simulated speckle, counted photon by photon.

    Pixels, modes and angles share nothing: particles, fields and photons of each are its own.

    Parameters
    ----------
    pixels : int
        In each bin.
    modes : () or (K,)
        Incoherent modes, of each angle or of all; see `speckle_contrast`.
    mean_counts : float
        Photons in a pixel and frame.
    particles : int, optional
        That each mode of each pixel sees. None stands for infinitely many, as in a real sample:
        the field is Gaussian, and is drawn from its covariance, several times as fast. Motion of
        particles across the gap is then neglected.
    workers : int, optional
        Number of threads; one for each core by default.
    """
    m = measurement
    transport, shear_rate = m.rates(m.times)
    experiment = Experiment(
        q=m.q,
        phi=m.phi,
        phi0=m.parameters.get("phi0", 0.0),
        gap=m.gap,
        dt=m.dt,
        transport=transport,
        shear_rate=shear_rate,
        pixels=pixels,
        particles=particles,
        modes=modes,
        mean_counts=mean_counts,
    )
    return two_time(experiment, seed, workers=workers)


def speckle_contrast(modes: float, particles: int | None = PARTICLES) -> float:
    """Contrast of `from_first_principles`: 1 / modes, less what few particles take."""
    return (1.0 if particles is None else 1 - 1 / particles) / modes


def write_measurement(
    path: Path,
    measurement: Measurement,
    c2: NDArray[np.float32],
    format: str = "aps-u",
    **simulation: object,
) -> Path:
    """Write a two-time file, and ``<path>.truth.json`` beside it; return the path of the truth.

    Parameters
    ----------
    format : str
        One of `data.formats.recognition.FORMATS`.
    simulation : object
        What else to record about the simulation.
    """
    m = measurement
    write = FORMATS[format].write
    assert write is not None, format
    write(path, c2, m.q, m.phi, m.dt)
    left_out = {"parameters", "model"} | (set() if m.model.has_flow else {"gap"})
    truth = {
        "model": m.model.name,
        **{key: value for key, value in asdict(m).items() if key not in left_out},
        **m.parameters,
        **simulation,
    }
    with replacing(truth_path(path)) as temporary:
        temporary.write_text(json.dumps(truth, indent=1) + "\n", encoding="utf-8")
    return truth_path(path)


def truth_path(path: Path) -> Path:
    """Where the truth of a simulated file is written: beside it."""
    return path.with_name(f"{path.name}.truth.json")
