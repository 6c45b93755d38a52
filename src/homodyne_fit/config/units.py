"""Questions about units: which values of a configuration give reason to ask.

`analyzer_parameters.units_confirmed` ends them. Values that a file contradicts are no question but
an error of the loader.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from homodyne_fit.config.keys import Question, Root
from homodyne_fit.config.problems import Problem
from homodyne_fit.loaders import TwoTimeFile
from homodyne_fit.unit_questions import (
    UNITS,
    Quantity,
    about_angles,
    about_dt,
    about_gap,
    about_q,
)

__all__ = ["questions", "questions_of_file"]

# What `units_confirmed` calls a quantity.
NAMES: dict[Quantity, Question] = {
    "gap": "stator_rotor_gap",
    "q": "wavevector_q",
    "dt": "dt",
    "phi": "phi",
}


class _Asked(NamedTuple):
    """A question, if there is a text: the quantity, its key, and what there is to ask."""

    quantity: Quantity
    key: str
    text: str | None


def questions(root: Root) -> Iterator[Problem]:
    """Ask what the configuration alone gives reason to ask."""
    yield from _unconfirmed(root, [*_about_gap(root), *_about_angles(root)])


def questions_of_file(root: Root, file: TwoTimeFile) -> Iterator[Problem]:
    """Ask about q and dt where the data file does not know them, and about its angles."""
    analyzer, asked = root.analyzer_parameters, []
    q, dt = analyzer.scattering.wavevector_q, analyzer.dt
    if file.q is None and q is not None:
        key = "analyzer_parameters.scattering.wavevector_q"
        asked.append(_Asked("q", key, about_q(q)))
    if file.dt is None and dt is not None:
        asked.append(_Asked("dt", "analyzer_parameters.dt", about_dt(dt)))
    if file.phi is not None:
        angles = about_angles("φ of the file", file.phi)
        asked.append(_Asked("phi", "experimental_data.file_path", angles))
    yield from _unconfirmed(root, asked)


def _unconfirmed(root: Root, asked: list[_Asked]) -> Iterator[Problem]:
    """The questions that the configuration does not answer, and how it can."""
    for quantity, key, text in asked:
        name = NAMES[quantity]
        if text is not None and name not in root.analyzer_parameters.units_confirmed:
            answer = f"set analyzer_parameters.units_confirmed: [{name}]"
            yield Problem(key, f"{text}; if it is in {UNITS[quantity]}, {answer}")


def _about_gap(root: Root) -> Iterator[_Asked]:
    gap = root.analyzer_parameters.geometry.stator_rotor_gap
    if root.has_flow and gap is not None:
        key = "analyzer_parameters.geometry.stator_rotor_gap"
        yield _Asked("gap", key, about_gap(gap))


def _about_angles(root: Root) -> Iterator[_Asked]:
    for key, what, angles in _angles(root):
        yield _Asked("phi", key, about_angles(what, angles))


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
