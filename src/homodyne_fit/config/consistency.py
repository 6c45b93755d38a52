"""Keys that contradict each other."""

from __future__ import annotations

from collections.abc import Iterator

from homodyne_fit.config.keys import Root
from homodyne_fit.config.problems import Problem
from homodyne_fit.parameters import DIFFUSION, PARAMETERS, SCALING

__all__ = ["contradictions", "held", "limits", "model_parameters"]


def contradictions(root: Root) -> Iterator[Problem]:
    """Say which values of the configuration do not go together."""
    initial, fixed = root.initial_parameters, held(root)
    active = initial.active_parameters
    if active is not None:
        unknown = [name for name in model_parameters(root) if name not in {*active, *fixed}]
        if unknown:
            yield Problem(
                "initial_parameters.values",
                f"what is not in active_parameters is held and needs a value: {', '.join(unknown)}",
            )
    yield from _starts_out_of_bounds(root)
    filtered = root.phi_filtering.enabled and root.phi_filtering.target_ranges
    if root.preprocessing.phi_range is not None and filtered:
        yield Problem(
            "preprocessing.phi_range",
            "it and phi_filtering.target_ranges both select angles; keep one",
        )
    if root.optimization.nlsq.per_angle_mode == "constant":
        given, also = initial.per_angle_scaling, root.optimization.nlsq.anti_degeneracy.constant
        for name in SCALING:
            if getattr(given, name) is not None and getattr(also, name) is not None:
                yield Problem(
                    f"initial_parameters.per_angle_scaling.{name}",
                    f"optimization.nlsq.anti_degeneracy.constant.{name} gives it, too; keep one",
                )


def _starts_out_of_bounds(root: Root) -> Iterator[Problem]:
    fixed = held(root)
    for name, start in root.initial_parameters.start.items():
        if name not in model_parameters(root) or name in fixed:
            continue
        lower, upper = limits(root, name)
        if not lower <= start <= upper:
            yield Problem(
                f"initial_parameters.values.{name}",
                f"the start of {name}, {start:g}, is outside its bounds, {lower:g} to {upper:g}; "
                "change it, or parameter_space.bounds",
            )


def model_parameters(root: Root) -> tuple[str, ...]:
    """Parameters of the model besides contrast and offset."""
    return tuple(name for name in PARAMETERS if name not in SCALING) if root.has_flow else DIFFUSION


def held(root: Root) -> dict[str, float]:
    """Parameters of the model that are held, and where: fixed, or given and not active."""
    initial = root.initial_parameters
    given = dict(initial.fixed)
    if initial.active_parameters is not None:
        idle = {n: v for n, v in initial.start.items() if n not in initial.active_parameters}
        given = idle | given
    return {name: given[name] for name in model_parameters(root) if name in given}


def limits(root: Root, name: str) -> tuple[float, float]:
    """Bounds of a parameter: those given, or the defaults."""
    for bound in root.parameter_space.bounds:
        if bound.name == name:
            return bound.min, bound.max
    return PARAMETERS[name].lower, PARAMETERS[name].upper
