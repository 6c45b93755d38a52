"""Keys that contradict each other, and values that may have another unit."""

from __future__ import annotations

from collections.abc import Iterator

from homodyne_fit.config.keys import KEYS, Root
from homodyne_fit.data.formats import TwoTimeFile
from homodyne_fit.data.selection import about_file
from homodyne_fit.data.units import NAMES, about_angles, about_gap, unconfirmed
from homodyne_fit.errors import Problem
from homodyne_fit.fitting.options import (
    ConstantParts,
    loss_problems,
    parameter_problems,
    weighting_problems,
)
from homodyne_fit.model.parameters import DIFFUSION, SCALING, SHEAR
from homodyne_fit.posterior.settings import Prior, prior_problems

__all__ = [
    "constant_parts",
    "contradictions",
    "explicit_bounds",
    "explicit_priors",
    "held_values",
    "model_parameters",
    "questions",
    "questions_about_file",
    "start_values",
]


def contradictions(root: Root) -> Iterator[Problem]:
    """Values of the configuration that contradict each other."""
    initial, fixed = root.initial_parameters, held_values(root)
    active = initial.active_parameters
    if active is not None:
        unknown = [name for name in model_parameters(root) if name not in {*active, *fixed}]
        if unknown:
            yield Problem(
                "initial_parameters.values",
                "parameters that are not in active_parameters are held, and need a value: "
                + ", ".join(unknown),
            )
    held_scaling = {name: value for name, value in initial.fixed.items() if name in SCALING}
    for problem in parameter_problems(
        start_values(root), fixed | held_scaling, explicit_bounds(root)
    ):
        yield problem.renamed(KEYS)
    search = root.optimization.nlsq
    for problem in (*weighting_problems(search), *loss_problems(search)):
        yield problem.renamed(KEYS)
    if root.optimization.samples and search.is_robust:
        yield Problem(
            "optimization.method",
            "the posterior is that of least squares; take nlsq, or optimization.nlsq.loss: linear",
        )
    if root.optimization.samples:
        yield from explicit_priors(root)[1]
    filtered = root.phi_filtering.enabled and root.phi_filtering.target_ranges
    if root.preprocessing.phi_range is not None and filtered:
        yield Problem(
            "preprocessing.phi_range",
            "this key and phi_filtering.target_ranges both select angles; keep one",
        )
    if root.optimization.nlsq.per_angle_mode == "constant":
        scaling, constant = (
            initial.per_angle_scaling,
            root.optimization.nlsq.anti_degeneracy.constant,
        )
        for name in SCALING:
            if getattr(scaling, name) is not None and getattr(constant, name) is not None:
                yield Problem(
                    f"initial_parameters.per_angle_scaling.{name}",
                    f"optimization.nlsq.anti_degeneracy.constant.{name} gives it, too; keep one",
                )


def model_parameters(root: Root) -> tuple[str, ...]:
    """Parameters of the model, without contrast and offset."""
    return (*DIFFUSION, *SHEAR, "phi0") if root.has_flow else DIFFUSION


def held_values(root: Root) -> dict[str, float]:
    """Values of the parameters that are held: fixed, or with a value and not active."""
    initial = root.initial_parameters
    values = dict(initial.fixed)
    if initial.active_parameters is not None:
        idle = {n: v for n, v in initial.start.items() if n not in initial.active_parameters}
        values = idle | values
    return {name: values[name] for name in model_parameters(root) if name in values}


def start_values(root: Root) -> dict[str, float]:
    """Start values in the configuration for parameters that are not held."""
    fixed, values = held_values(root), root.initial_parameters.start
    return {name: values[name] for name in model_parameters(root) if name in values.keys() - fixed}


def constant_parts(root: Root) -> ConstantParts:
    """Whether the rates have constant parts: as the data need, unless it is said what is active."""
    chosen = root.optimization.nlsq.constant_parts
    named = root.initial_parameters.active_parameters is not None
    return "free" if chosen == "auto" and named else chosen


def explicit_bounds(root: Root) -> dict[str, tuple[float, float]]:
    """Bounds in the configuration for contrast, offset and the parameters of the model."""
    names = (*model_parameters(root), *SCALING)
    bounds = root.parameter_space.bounds
    return {bound.name: (bound.min, bound.max) for bound in bounds if bound.name in names}


def explicit_priors(root: Root) -> tuple[dict[str, Prior], list[Problem]]:
    """Priors in the configuration by name of the parameter, and what is wrong with them."""
    priors, problems = {}, []
    held, names = held_values(root), (*model_parameters(root), *SCALING)
    for number, bound in enumerate(root.parameter_space.bounds):
        if bound.name not in names or bound.name in held:
            continue
        try:
            limits = bound.min, bound.max
            prior = Prior.from_keys(bound.type, bound.prior_mu, bound.prior_sigma, limits)
        except ValueError as error:
            problems.append(Problem(f"parameter_space.bounds.{number}", str(error)))
            continue
        if prior is not None:
            priors[bound.name] = prior
    for problem in prior_problems(priors):
        problems.append(Problem(f"parameter_space.bounds.{problem.where}", problem.what))
    return priors, problems


def questions(root: Root) -> Iterator[Problem]:
    """Ask about the unit of the gap and of angles in the configuration."""
    gap = root.analyzer_parameters.geometry.stator_rotor_gap
    if root.has_flow and gap is not None and (text := about_gap(gap)):
        key = "analyzer_parameters.geometry.stator_rotor_gap"
        yield from _unconfirmed(root, key, {"gap": text})
    for key, what, angles in _angles(root):
        if text := about_angles(what, angles):
            yield from _unconfirmed(root, key, {"phi": text})


def questions_about_file(root: Root, file: TwoTimeFile) -> Iterator[Problem]:
    """Ask about the unit of q and dt if the data file has none, and about its q and angles."""
    analyzer = root.analyzer_parameters
    open_questions = about_file(file, analyzer.scattering.wavevector_q, analyzer.dt, None)
    # These angles are in the file, and so is a q that is asked about although the file has one.
    keys = {**KEYS, "phi": "experimental_data.file_path"}
    if file.q is not None:
        keys["q"] = "experimental_data.file_path"
    for quantity, text in open_questions.items():
        yield from _unconfirmed(root, keys[quantity], {quantity: text})


def _unconfirmed(root: Root, key: str, open_questions: dict[str, str]) -> Iterator[Problem]:
    """The questions that the configuration leaves open, each with the way to answer it."""
    names = root.analyzer_parameters.units_confirmed
    confirmed = [quantity for quantity, name in NAMES.items() if name in names]
    for text in unconfirmed(open_questions, confirmed, _answer):
        yield Problem(key, text)


def _answer(quantity: str) -> str:
    return f"set analyzer_parameters.units_confirmed: [{NAMES[quantity]}]"


def _angles(root: Root) -> Iterator[tuple[str, str, list[float]]]:
    """All angles of a configuration: dotted path, what they are, and their values."""
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
