"""What a fit of a configuration will do, found out without running it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from homodyne_fit.config import Config
from homodyne_fit.config.consistency import bounds, held, model_parameters
from homodyne_fit.data.selection import Selection
from homodyne_fit.data.storage.memory import CHUNKS_SHARE, allowed_memory
from homodyne_fit.data.unpacking import COPIES
from homodyne_fit.model.parameters import PARAMETERS, SCALING

__all__ = ["Estimate", "ParameterPlan", "Plan", "estimate", "plan_of"]

# What a fit takes, from fits of this version with two processors: passes over all points that it
# makes, points that the search for the basin and limits that are hit take besides, seconds a point
# and pass, seconds until the first pass, bytes of the program itself.
PASSES = (3, 30)
SEARCH_POINTS = 3e7
SECONDS_PER_POINT = 1e-8
SECONDS_TO_START = 4.0
PROGRAM_BYTES = 5e8


@dataclass(frozen=True)
class ParameterPlan:
    """What happens to a parameter.

    Attributes
    ----------
    name, unit : str
    role : str
        ``searched``, ``held``, or ``eliminated``: computed from the others at each step.
    start : float or None
        Start, or the value held; None where it comes from the data.
    lower, upper : float or None
        Bounds; None for what is held.
    bounds_from : str or None
        ``given``, ``measurement`` where they come from q, dt, duration and gap, or ``default``;
        None for what is held.
    """

    name: str
    unit: str
    role: Literal["searched", "held", "eliminated"]
    start: float | None
    lower: float | None
    upper: float | None
    bounds_from: Literal["given", "measurement", "default"] | None


@dataclass(frozen=True)
class Estimate:
    """What a fit will take.

    Attributes
    ----------
    memory : float
        Bytes.
    seconds : (float, float)
        Shortest and longest time to expect.
    basis : str
        What the figures rest on.
    """

    memory: float
    seconds: tuple[float, float]
    basis: str


@dataclass(frozen=True, eq=False)
class Plan:
    """What a fit will do.

    Attributes
    ----------
    config : Config
    selection : Selection
    parameters : tuple of ParameterPlan
    layers : dict
        What each layer will do, by its name; a layer that is off is not in it.
    search : str
        How the basin is searched for.
    estimate : Estimate
    output : Path
        Folder of the results.
    """

    config: Config
    selection: Selection
    parameters: tuple[ParameterPlan, ...]
    layers: dict[str, str]
    search: str
    estimate: Estimate
    output: Path

    def to_json(self) -> dict[str, Any]:
        """All of it, for programs."""
        root, chosen = self.config.root, self.selection
        return {
            "model": "laminar_flow" if root.has_flow else "static",
            "shear": root.model.shear if root.has_flow else None,
            "stator_rotor_gap": (
                root.analyzer_parameters.geometry.stator_rotor_gap if root.has_flow else None
            ),
            "data": {
                "path": str(chosen.file.path),
                "format": chosen.file.format,
                "q": chosen.q.tolist(),
                "phi": chosen.phi.tolist(),
                "n_angles_at_q": chosen.n_angles_at_q,
                "first_frame": chosen.frames.start + 1,
                "last_frame": chosen.frames.stop,
                "n_frames_masked": len(chosen.masked),
                "dt": chosen.dt,
                "n_points": chosen.n_points,
                "notes": list(chosen.notes),
            },
            "per_angle_mode": self.config.anti_degeneracy.per_angle_mode,
            "layers": self.layers,
            "search": self.search,
            "parameters": [vars(parameter) for parameter in self.parameters],
            "estimate": {**vars(self.estimate), "seconds": list(self.estimate.seconds)},
            "output": str(self.output),
        }


def plan_of(config: Config, selection: Selection, output: Path) -> Plan:
    """Say what a fit will do.

    Parameters
    ----------
    config : Config
    selection : Selection
        What `config` selects.
    output : Path
        Folder of the results.

    Raises
    ------
    InputError
        If the fit cannot have the memory that it needs.
    """
    return Plan(
        config=config,
        selection=selection,
        parameters=tuple(_parameters(config, selection)),
        layers=dict(_layers(config, len(selection.phi))),
        search=_search(config),
        estimate=estimate(selection, config.root.optimization.nlsq.memory),
        output=output,
    )


def estimate(selection: Selection, memory: int | None = None) -> Estimate:
    """Estimate what a fit of the selected points takes; one row of a matrix is read for it.

    Parameters
    ----------
    selection : Selection
    memory : int, optional
        Bytes that may be used; three quarters of what is available by default.

    Raises
    ------
    InputError
        If a matrix needs more than these.
    """
    n_angles, n_frames = len(selection.positions), selection.n_frames
    number = selection.file.read_stored(int(selection.positions[0]), slice(0, 1)).itemsize
    # The points as the fit sorts them, and copies of a matrix that is read.
    matrices = n_angles * n_frames**2 * number
    points = 1.2 * selection.n_points * number
    reading = COPIES * n_frames**2 * number
    if selection.stays_on_disk(memory):
        kept = min(points, CHUNKS_SHARE * allowed_memory(memory))
        what = "what is kept of the points"
    else:
        what, kept = "matrices, points", matrices + points
    fewest, most = (n * selection.n_points for n in PASSES)
    search = SEARCH_POINTS * SECONDS_PER_POINT
    return Estimate(
        memory=kept + reading + PROGRAM_BYTES,
        seconds=(
            SECONDS_TO_START + fewest * SECONDS_PER_POINT,
            SECONDS_TO_START + most * SECONDS_PER_POINT + search,
        ),
        basis=f"{what} and {PROGRAM_BYTES / 1e9:g} GB for the program; "
        f"{PASSES[0]} to {PASSES[1]} passes of {SECONDS_PER_POINT * 1e9:g} ns a point, up to "
        f"{search:g} s of search and {SECONDS_TO_START:g} s to start, as measured with two "
        "processors; yours may differ",
    )


def _parameters(config: Config, selection: Selection) -> list[ParameterPlan]:
    root, limits = config.root, config.bounds_for(selection)
    given = bounds(root)

    def source(name: str) -> Literal["given", "measurement", "default"]:
        if name in given:
            return "given"
        return "measurement" if PARAMETERS[name].bounds is None else "default"

    fixed, start_values = held(root), root.initial_parameters.start
    plans = []
    for name in model_parameters(root):
        unit = PARAMETERS[name].unit
        if name in fixed:
            plans.append(ParameterPlan(name, unit, "held", fixed[name], None, None, None))
        else:
            start = start_values.get(name, PARAMETERS[name].start)
            plans.append(ParameterPlan(name, unit, "searched", start, *limits[name], source(name)))
    if config.anti_degeneracy.per_angle_mode == "constant":
        return plans
    return plans + [
        ParameterPlan(name, "", "eliminated", None, *limits[name], source(name)) for name in SCALING
    ]


SCALING_IN_WORDS = {
    "auto": "one contrast and offset for all angles; one pair each, their spread learned, if the "
    "data reject that",
    "hierarchical": "a contrast and an offset for each angle, their spread learned",
    "individual": "a contrast and an offset for each angle, freely",
    "averaged": "one contrast and offset for all angles",
    "fourier": "contrast and offset as series in φ of order {order}",
    "constant": "contrast and offset held at {held}",
    "sequential": "contrast and offset held at what each angle gives when fitted alone",
}


def _layers(config: Config, n_angles: int) -> list[tuple[str, str]]:
    settings = config.anti_degeneracy
    mode, constant = settings.per_angle_mode, settings.constant
    kept = [name for name in SCALING if getattr(constant, name) is not None]
    what = f"the values given ({', '.join(kept)})" if kept else "their quantiles"
    words = SCALING_IN_WORDS[mode].format(order=settings.fourier_order, held=what)
    layers = [("reparametrization", f"{mode}: {words}")]
    if settings.hierarchical.enable and mode != "constant":
        layers.append(("hierarchical", "the physics first, contrast and offset held"))
    penalty = settings.regularization
    on = mode in ("auto", "hierarchical") if penalty.enable is None else penalty.enable
    if on and n_angles > 1:
        weight = "" if penalty.mode == "evidence" else f", λ = {penalty.weight:g}"
        layers.append(("regularization", f"{penalty.mode}{weight}"))
    monitor = settings.gradient_monitoring
    if monitor.enable:
        layers.append(("gradient_monitoring", f"{monitor.response} at a collapse of the gradient"))
    weights = settings.shear_weighting
    if weights.enable and config.root.has_flow:
        words = f"angles weighted {weights.min_weight:g} to 1 by |cos(φ0 − φ)|"
        layers.append(("shear_weighting", words))
    return layers


def _search(config: Config) -> str:
    search = config.root.optimization.nlsq.multi_start
    if not search.enable:
        return "from the start values alone"
    return (
        f"{search.n_starts} starts ({search.sampling_strategy}, seed {search.seed}), one of them "
        "the start values"
    )
