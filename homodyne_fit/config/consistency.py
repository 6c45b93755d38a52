"""Keys that contradict each other."""

from __future__ import annotations

from collections.abc import Iterator

from homodyne_fit.config.keys import KEYS, Root
from homodyne_fit.data.formats import TwoTimeFile
from homodyne_fit.data.selection import about_file
from homodyne_fit.data.units import NAMES, about_angles, about_gap, unconfirmed
from homodyne_fit.errors import Problem
from homodyne_fit.fitting.options import parameter_problems
from homodyne_fit.model.parameters import DIFFUSION, SCALING, SHEAR

__all__ = [
    "bounds",
    "contradictions",
    "held",
    "model_parameters",
    "questions",
    "questions_of_file",
    "starts",
]


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
    held_scaling = {name: value for name, value in initial.fixed.items() if name in SCALING}
    for problem in parameter_problems(starts(root), fixed | held_scaling, bounds(root)):
        yield problem.renamed(KEYS)
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


def model_parameters(root: Root) -> tuple[str, ...]:
    """Parameters of the model besides contrast and offset."""
    return (*DIFFUSION, *SHEAR, "phi0") if root.has_flow else DIFFUSION


def held(root: Root) -> dict[str, float]:
    """Parameters of the model that are held, and where: fixed, or given and not active."""
    initial = root.initial_parameters
    starts = dict(initial.fixed)
    if initial.active_parameters is not None:
        idle = {n: v for n, v in initial.start.items() if n not in initial.active_parameters}
        starts = idle | starts
    return {name: starts[name] for name in model_parameters(root) if name in starts}


def starts(root: Root) -> dict[str, float]:
    """Start values of the parameters that are searched, as far as they are given."""
    fixed, start_values = held(root), root.initial_parameters.start
    return {
        name: start_values[name]
        for name in model_parameters(root)
        if name in start_values.keys() - fixed
    }


def bounds(root: Root) -> dict[str, tuple[float, float]]:
    """Bounds that are given, of contrast, offset and the parameters of the model."""
    names = (*model_parameters(root), *SCALING)
    given = root.parameter_space.bounds
    return {bound.name: (bound.min, bound.max) for bound in given if bound.name in names}


def questions(root: Root) -> Iterator[Problem]:
    """Ask what the configuration alone gives reason to ask."""
    gap = root.analyzer_parameters.geometry.stator_rotor_gap
    if root.has_flow and gap is not None and (text := about_gap(gap)):
        key = "analyzer_parameters.geometry.stator_rotor_gap"
        yield from _unconfirmed(root, key, {"gap": text})
    for key, what, angles in _angles(root):
        if text := about_angles(what, angles):
            yield from _unconfirmed(root, key, {"phi": text})


def questions_of_file(root: Root, file: TwoTimeFile) -> Iterator[Problem]:
    """Ask about q and dt where the data file does not know them, and about its angles."""
    analyzer = root.analyzer_parameters
    open_questions = about_file(file, analyzer.scattering.wavevector_q, analyzer.dt, None)
    # The angles are those of the file.
    keys = {**KEYS, "phi": "experimental_data.file_path"}
    for quantity, text in open_questions.items():
        yield from _unconfirmed(root, keys[quantity], {quantity: text})


def _unconfirmed(root: Root, key: str, open_questions: dict[str, str]) -> Iterator[Problem]:
    """The questions that the configuration does not answer, and how it can."""
    names = root.analyzer_parameters.units_confirmed
    confirmed = [quantity for quantity, name in NAMES.items() if name in names]
    for text in unconfirmed(open_questions, confirmed, _answer):
        yield Problem(key, text)


def _answer(quantity: str) -> str:
    return f"set analyzer_parameters.units_confirmed: [{NAMES[quantity]}]"


def _angles(root: Root) -> Iterator[tuple[str, str, list[float]]]:
    """All angles of a configuration: where they are, what, and the values."""
    initial = root.initial_parameters
    if root.has_flow:
        for number, bound in enumerate(root.parameter_space.bounds):
            if bound.name == "phi0":
                key = f"parameter_space.bounds.{number}"
                yield key, "the bounds of phi0", [bound.min, bound.max]
        for section, values in (("values", initial.start), ("fixed_parameters", initial.fixed)):
            if "phi0" in values:
                yield f"initial_parameters.{section}.phi0", "phi0", [values["phi0"]]
    yield "experimental_data.phi_angles", "φ", root.experimental_data.phi_angles or []
    if root.phi_filtering.enabled:
        for number, each in enumerate(root.phi_filtering.target_ranges):
            key = f"phi_filtering.target_ranges.{number}"
            yield key, "the range of φ", [each.min_angle, each.max_angle]
    yield "preprocessing.phi_range", "the range of φ", root.preprocessing.phi_range or []
