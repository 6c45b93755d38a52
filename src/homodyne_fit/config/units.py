"""Questions about units: which values of a configuration give reason to ask.

`analyzer_parameters.units_confirmed` ends them. Values that a file contradicts are no question but
an error of the loader.
"""

from __future__ import annotations

from collections.abc import Iterator

from homodyne_fit.config.keys import Root
from homodyne_fit.config.problems import Problem
from homodyne_fit.loaders import TwoTimeFile
from homodyne_fit.unit_questions import NAMES, about_angles, about_file, about_gap, unconfirmed

__all__ = ["questions", "questions_of_file"]

# Where a question that a file leads to is at home.
KEYS: dict[str, str] = {
    "q": "analyzer_parameters.scattering.wavevector_q",
    "dt": "analyzer_parameters.dt",
    "phi": "experimental_data.file_path",
}


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
    asked = about_file(file, analyzer.scattering.wavevector_q, analyzer.dt, None)
    for quantity, text in asked.items():
        yield from _unconfirmed(root, KEYS[quantity], {quantity: text})


def _unconfirmed(root: Root, key: str, asked: dict[str, str]) -> Iterator[Problem]:
    """The questions that the configuration does not answer, and how it can."""
    names = root.analyzer_parameters.units_confirmed
    confirmed = [quantity for quantity, name in NAMES.items() if name in names]
    for text in unconfirmed(asked, confirmed, _answer):
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
