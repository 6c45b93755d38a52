"""The plan of a fit: what it will do, without running it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from homodyne_fit.config import Config
from homodyne_fit.config.consistency import (
    constant_parts,
    explicit_bounds,
    held_values,
    model_parameters,
)
from homodyne_fit.config.effort import Effort, effort_of
from homodyne_fit.data.selection import Selection
from homodyne_fit.fitting.options import left_to_data, zero_parts
from homodyne_fit.model.parameters import PARAMETERS, SCALING

__all__ = ["ParameterPlan", "Plan", "plan_of"]


@dataclass(frozen=True)
class ParameterPlan:
    """What a fit does with a parameter.

    Attributes
    ----------
    role : str
        ``searched``, ``optional``, where the data decide whether it is needed, ``held``, or
        ``eliminated``: computed from the others at each step.
    start : float or None
        Start, or the held value; None if it comes from the data.
    lower, upper : float or None
        Bounds; None for a held parameter.
    bounds_from : str or None
        ``given``, ``measurement`` where they come from q, dt, duration and gap, or ``default``;
        None for a held parameter.
    """

    name: str
    unit: str
    role: Literal["searched", "optional", "held", "eliminated"]
    start: float | None
    lower: float | None
    upper: float | None
    bounds_from: Literal["given", "measurement", "default"] | None


@dataclass(frozen=True, eq=False)
class Plan:
    """What a fit will do.

    Attributes
    ----------
    layers : dict
        What each layer will do, by its name, without the layers that are off.
    search : str
        How the basin of the minimum is searched.
    output : Path
        Folder of the results.
    """

    config: Config
    selection: Selection
    parameters: tuple[ParameterPlan, ...]
    layers: dict[str, str]
    search: str
    effort: Effort
    output: Path

    def to_json(self) -> dict[str, Any]:
        """The plan for programs."""
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
            "estimate": {**vars(self.effort), "seconds": list(self.effort.seconds)},
            "output": str(self.output),
        }


def plan_of(config: Config, selection: Selection, output: Path) -> Plan:
    """Make the plan; an `InputError` says if the fit needs more memory than it may use."""
    return Plan(
        config=config,
        selection=selection,
        parameters=tuple(_parameters(config, selection)),
        layers=dict(_layers(config, len(selection.phi))),
        search=_search(config),
        effort=effort_of(config, selection),
        output=output,
    )


def _parameters(config: Config, selection: Selection) -> list[ParameterPlan]:
    root, limits = config.root, config.bounds_for(selection)
    given = explicit_bounds(root)

    def source(name: str) -> Literal["given", "measurement", "default"]:
        if name in given:
            return "given"
        return "measurement" if PARAMETERS[name].bounds is None else "default"

    names, parts = model_parameters(root), constant_parts(root)
    mode = config.anti_degeneracy.per_angle_mode
    held, start_values = held_values(root), root.initial_parameters.start
    optional = left_to_data(parts, mode, names, (*held, *given, *start_values))
    fixed = zero_parts(parts, names) | held
    plans = []
    for name in names:
        unit = PARAMETERS[name].unit
        if name in fixed:
            plans.append(ParameterPlan(name, unit, "held", fixed[name], None, None, None))
        else:
            start = start_values.get(name, PARAMETERS[name].start)
            role = "optional" if name in optional else "searched"
            plans.append(ParameterPlan(name, unit, role, start, *limits[name], source(name)))
    if mode == "constant":
        return plans
    return plans + [
        ParameterPlan(name, "", "eliminated", None, *limits[name], source(name)) for name in SCALING
    ]


SCALING_IN_WORDS = {
    "auto": "one contrast and offset for all angles or, if the data reject that, for each angle "
    "with a spread that is learned",
    "hierarchical": "a contrast and an offset for each angle, with a spread that is learned",
    "individual": "a contrast and an offset for each angle, without constraint",
    "averaged": "one contrast and offset for all angles",
    "fourier": "contrast and offset as series in φ of order {order}",
    "constant": "contrast and offset held at {held}",
    "sequential": "contrast and offset held at the values of a separate fit of each angle",
}


def _layers(config: Config, n_angles: int) -> list[tuple[str, str]]:
    settings = config.anti_degeneracy
    mode, constant = settings.per_angle_mode, settings.constant
    names = [name for name in SCALING if getattr(constant, name) is not None]
    held = (
        f"the values given ({', '.join(names)})" if names else "what c2 at short and long lags has"
    )
    words = SCALING_IN_WORDS[mode].format(order=settings.fourier_order, held=held)
    layers = [("reparametrization", f"{mode}: {words}")]
    if settings.hierarchical.enable and mode != "constant":
        layers.append(
            ("hierarchical", "first the physical parameters, with contrast and offset held")
        )
    penalty = settings.regularization
    on = mode in ("auto", "hierarchical") if penalty.enable is None else penalty.enable
    if on and n_angles > 1:
        weight = "" if penalty.mode == "evidence" else f", λ = {penalty.weight:g}"
        layers.append(("regularization", f"{penalty.mode}{weight}"))
    monitor = settings.gradient_monitoring
    if monitor.enable:
        layers.append(("gradient_monitoring", f"{monitor.response} at a collapse of the gradient"))
    weights, use = settings.shear_weighting, settings.use_of_shear_weights
    if use != "none" and config.root.has_flow:
        words = f"angles weighted {weights.min_weight:g} to 1 by |cos(φ0 − φ)|"
        words += " in the search on samples" if use == "search" else ""
        layers.append(("shear_weighting", words))
    return layers


def _search(config: Config) -> str:
    search = config.root.optimization.nlsq.multi_start
    if not search.enable:
        return "from the start values alone"
    return (
        f"{search.n_starts} starts ({search.sampling_strategy}, seed {search.seed}), including "
        "the start values"
    )
