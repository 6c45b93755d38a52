"""Configurations of other programs, and of older generations of homodyne, in our keys.

The contents are changed before they are validated: comments are left out, keys with another name
are renamed, and variables in paths are replaced. A key that would change the result, and has no
counterpart, is a problem that names what to use.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from homodyne_fit.config.effects import NOTES
from homodyne_fit.errors import Problem
from homodyne_fit.model.parameters import ALIASES, SHEAR

__all__ = ["Translation", "is_older_generation", "translate", "with_analysis_mode"]

# Keys with another place here.
MOVED = {
    "dt": "analyzer_parameters.dt",
    "data_file": "experimental_data.file_path",
    "analyzer_parameters.temporal.dt": "analyzer_parameters.dt",
    "analyzer_parameters.temporal.start_frame": "analyzer_parameters.start_frame",
    "analyzer_parameters.temporal.end_frame": "analyzer_parameters.end_frame",
    "analyzer_parameters.temporal.frame_step": "analyzer_parameters.frame_step",
    "optimization_config.angle_filtering.enabled": "phi_filtering.enabled",
    "optimization_config.angle_filtering.target_ranges": "phi_filtering.target_ranges",
    "optimization.nlsq.max_nfev": "optimization.nlsq.max_iterations",
}

# Keys with the name of a file or a folder.
PATHS = (
    "experimental_data.file_path",
    "experimental_data.data_folder_path",
    "experimental_data.data_file_name",
    "experimental_data.mask_frames",
    "optimization.nlsq.scratch",
    "output.directory",
)

# For each key that states a unit, the names of the unit that it must be.
UNITS = {
    "analyzer_parameters.temporal.dt_unit": ("s", "sec", "second", "seconds"),
    "analyzer_parameters.time_unit": ("s", "sec", "second", "seconds"),
    "analyzer_parameters.scattering.q_unit": ("Å⁻¹", "Å^-1", "1/Å", "A^-1", "1/A", "angstrom^-1"),
    "analyzer_parameters.geometry.gap_unit": ("Å", "A", "angstrom", "angstroms"),
}

# Sections that only configurations of the JSON generations of homodyne have.
OLDER_SECTIONS = ("optimization_config", "advanced_settings", "performance_settings")

# Stages of `preprocessing` that change values of c2.
SMOOTHING = ("noise_reduction", "outlier_treatment")

# The beginning of a path of Windows.
WINDOWS = re.compile(r"[A-Za-z]:|\\")

VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")


@dataclass
class Translation:
    """The contents in our keys.

    Attributes
    ----------
    raw : dict
    notes : list of str
        What was taken from other keys, in sentences.
    problems : list of Problem
    """

    raw: dict[str, Any]
    notes: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


def translate(raw: Mapping[str, Any], replaced: Collection[str] = ()) -> Translation:
    """Translate the contents of a configuration.

    Parameters
    ----------
    raw : mapping
    replaced : collection of str
        Dotted paths of keys whose values are replaced later, from the command line.
    """
    older = is_older_generation(raw)
    result = Translation(_without_comments(raw))
    _check_units(result)
    _refuse(result)
    _expand_paths(result, replaced)
    for old, new in MOVED.items():
        _move(result, old, new)
    temporal = _at(result.raw, "analyzer_parameters.temporal")
    if isinstance(temporal, dict) and all(str(key).endswith(NOTES) for key in temporal):
        del result.raw["analyzer_parameters"]["temporal"]
    _hold_fixed_bounds(result)
    if older:
        _start_within_bounds(result)
    return result


def is_older_generation(raw: Mapping[str, Any]) -> bool:
    """Whether this is a configuration of homodyne from before its YAML files."""
    return any(section in raw for section in OLDER_SECTIONS)


def with_analysis_mode(raw: dict[str, Any], notes: list[str]) -> dict[str, Any]:
    """The contents with an analysis mode, and a note if it is not given.

    The mode may be in other keys. If there is none, homodyne and xpcsjax fit the static model; so
    do we, unless a gap or a parameter of the flow is named.
    """
    if raw.get("analysis_mode") is not None:
        return raw
    for path in ("metadata.analysis_mode", "analysis_settings.analysis_mode"):
        if isinstance(mode := _at(raw, path), str):
            notes.append(f"analysis_mode is not given; {mode} is taken from {path}")
            return {**raw, "analysis_mode": mode}
    static = _at(raw, "analysis_settings.static_mode")
    if isinstance(static, bool):
        submode = _at(raw, "analysis_settings.static_submode")
        mode = f"static_{submode}" if static and submode else "static" if static else "laminar_flow"
        where = f"analysis_settings.static_mode: {str(static).lower()}"
        notes.append(f"analysis_mode is not given; {mode} is taken from {where}")
        return {**raw, "analysis_mode": mode}
    if _at(raw, "analyzer_parameters.geometry.stator_rotor_gap") is not None or _names_flow(raw):
        return raw
    if not isinstance(raw.get("experimental_data"), dict):
        return raw
    notes.append(
        "analysis_mode is not given, and neither are a gap or a parameter of the flow: the static "
        "model is fitted, as homodyne and xpcsjax do; for a sheared sample set analysis_mode: "
        "laminar_flow, and the gap"
    )
    return {**raw, "analysis_mode": "static"}


def _names_flow(raw: Mapping[str, Any]) -> bool:
    """Whether a start, a bound or a held value is of a parameter of the flow."""
    named: list[Any] = []
    for path in ("values", "parameter_names", "active_parameters", "fixed_parameters"):
        value = _at(raw, f"initial_parameters.{path}")
        named += list(value) if isinstance(value, list | dict) else []
    bounds = _at(raw, "parameter_space.bounds")
    if isinstance(bounds, list):
        named += [bound.get("name") for bound in bounds if isinstance(bound, dict)]
    return any(ALIASES.get(str(name), str(name)) in (*SHEAR, "phi0") for name in named)


def _without_comments(value: Any) -> Any:
    """The value without keys that begin with an underscore, at any depth."""
    if isinstance(value, dict):
        return {
            key: _without_comments(item)
            for key, item in value.items()
            if not str(key).startswith("_")
        }
    return [_without_comments(item) for item in value] if isinstance(value, list) else value


def _at(raw: Any, path: str) -> Any:
    """The value at a dotted path; None if there is none."""
    for key in path.split("."):
        raw = raw.get(key) if isinstance(raw, dict) else None
    return raw


def _move(result: Translation, old: str, new: str) -> None:
    value = _at(result.raw, old)
    if value is None:
        return
    *sections, key = old.split(".")
    section: Any = _at(result.raw, ".".join(sections)) if sections else result.raw
    del section[key]
    present = _at(result.raw, new)
    if present is not None and present != value:
        what = f"{new} is given, too, with another value ({present} and {value}); keep one"
        result.problems.append(Problem(old, what))
        return
    node = result.raw
    *sections, key = new.split(".")
    for name in sections:
        inner = node.get(name)
        if inner is not None and not isinstance(inner, dict):
            return  # the validation reports a section that is none
        node[name] = inner if inner is not None else {}
        node = node[name]
    node[key] = value


def _check_units(result: Translation) -> None:
    for path, names in UNITS.items():
        unit = _at(result.raw, path)
        if isinstance(unit, str) and _folded(unit) not in map(_folded, names):
            what = f"the unit is '{unit}', but {names[0]} is needed; convert the value"
            result.problems.append(Problem(path, what))


def _folded(unit: str) -> str:
    """The same text for all spellings of a unit, such as Å as one character or as two."""
    return unicodedata.normalize("NFKC", unit).casefold().replace("−", "-").strip()


def _refuse(result: Translation) -> None:
    """Refuse keys that would change the result, and have no counterpart."""
    raw, problems = result.raw, result.problems
    filtering = raw.get("data_filtering")
    if isinstance(filtering, dict) and filtering.get("enabled"):
        problems += [
            Problem(f"data_filtering.{key}", f"is not available; use {ours}")
            for key, ours in (
                ("q_range", "analyzer_parameters.scattering.wavevector_q for one wave vector"),
                ("phi_range", "preprocessing.phi_range, or phi_filtering.target_ranges"),
                ("quality_threshold", "'homodyne_fit inspect' and phi_filtering to leave out"),
                ("frame_filtering", "experimental_data.mask_frames"),
            )
            if filtering.get(key)
        ]
    initial = raw.get("initial_parameters")
    if isinstance(initial, dict) and initial.pop("tied_parameters", None):
        what = "tied parameters are not available; hold one with fixed_parameters, or leave it free"
        problems.append(Problem("initial_parameters.tied_parameters", what))
    for name in SMOOTHING if _at(raw, "preprocessing.enabled") else ():
        stage = _at(raw, f"preprocessing.stages.{name}")
        if isinstance(stage, dict):
            stage = stage.get("enabled", True)
        if stage:
            what = (
                "the matrices are fitted as they are measured, since smoothing and clipping change "
                "the answer and its errors; experimental_data.mask_frames leaves frames out"
            )
            problems.append(Problem(f"preprocessing.stages.{name}", what))
    mode = "optimization.nlsq.anti_degeneracy.per_angle_mode"
    if _at(raw, mode) == "independent":
        what = (
            "fits of each angle by itself are not available; 'individual' gives each angle its own "
            "contrast and offset, and phi_filtering selects an angle"
        )
        problems.append(Problem(mode, what))


def _expand_paths(result: Translation, replaced: Collection[str]) -> None:
    """Replace ``$NAME`` and ``${NAME}`` in paths by variables of the environment."""
    for path in ("data_file", *PATHS):
        value = _at(result.raw, path)
        if not isinstance(value, str) or _is_replaced(path, replaced):
            continue
        control = any(unicodedata.category(character) == "Cc" for character in value)
        if control and WINDOWS.match(value):
            what = (
                f"the path has a control character ({value!r}): in double quotes \\ begins an "
                "escape; write a path of Windows in single quotes, or with /"
            )
            result.problems.append(Problem(path, what))
        names = [braced or bare for braced, bare in VARIABLE.findall(value)]
        unknown = [name for name in names if name not in os.environ]
        if unknown:
            what = f"the variable {unknown[0]} is not set in the environment (got '{value}')"
            result.problems.append(Problem(path, what))
        *sections, key = path.split(".")
        section: Any = _at(result.raw, ".".join(sections)) if sections else result.raw
        section[key] = os.path.expandvars(value)


def _is_replaced(path: str, replaced: Collection[str]) -> bool:
    """Whether the value, or all paths of the data file, will be replaced."""
    if path.startswith(("experimental_data.data_", "data_file")):
        return "experimental_data.file_path" in replaced
    return path in replaced


def _hold_fixed_bounds(result: Translation) -> None:
    """Turn bounds of the type ``fixed``, with equal ends, into held values."""
    bounds = _at(result.raw, "parameter_space.bounds")
    if not isinstance(bounds, list):
        return
    fixed = [
        bound
        for bound in bounds
        if isinstance(bound, dict)
        and bound.get("type") == "fixed"
        and bound.get("min") == bound.get("max")
        and "name" in bound
    ]
    if not fixed:
        return
    space = result.raw["parameter_space"]
    space["bounds"] = [bound for bound in bounds if bound not in fixed]
    initial = result.raw.setdefault("initial_parameters", {})
    if isinstance(initial, dict):
        held = initial.get("fixed_parameters") or {}
        initial["fixed_parameters"] = {bound["name"]: bound["min"] for bound in fixed} | held


def _start_within_bounds(result: Translation) -> None:
    """Move starts outside their bounds to the nearest bound, as older programs did."""
    initial, bounds = (
        _at(result.raw, path) for path in ("initial_parameters", "parameter_space.bounds")
    )
    names, values = (
        initial.get(key) if isinstance(initial, dict) else None
        for key in ("parameter_names", "values")
    )
    if not (isinstance(names, list) and isinstance(values, list) and isinstance(bounds, list)):
        return
    known: list[dict[str, Any]] = [each for each in bounds if isinstance(each, dict)]
    for bound in (each for each in known if each.get("name") in names):
        index = names.index(bound["name"])
        start: Any = values[index] if index < len(values) else None
        low: Any = bound.get("min")
        high: Any = bound.get("max")
        if not all(isinstance(value, int | float) for value in (low, start, high)):
            continue
        inside = min(max(start, low), high)
        if inside != start:
            values[index] = inside
            result.notes.append(
                f"the start of {bound['name']}, {start:g}, is outside its bounds, {low:g} to "
                f"{high:g}; the search starts at {inside:g}"
            )
