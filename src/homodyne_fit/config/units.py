"""Questions about values that look as if they were in another unit than the one asked for.

Most are surely mistakes, but any may be meant: `analyzer_parameters.units_confirmed` ends them.
Values that a file contradicts are no question but an error of the loader.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

from homodyne_fit.config.keys import Root
from homodyne_fit.config.problems import Problem
from homodyne_fit.loaders import TwoTimeFile

__all__ = ["questions", "questions_of_file"]

GAP = "analyzer_parameters.geometry.stator_rotor_gap"
Q = "analyzer_parameters.scattering.wavevector_q"
DT = "analyzer_parameters.dt"

# Gaps in Å that are not asked about, 1 µm to 10 cm, and those of usual shear cells.
POSSIBLE_GAPS = (1e4, 1e9)
USUAL_GAPS = (1e5, 1e8)
LENGTHS = {"m": 1e10, "mm": 1e7, "µm": 1e4, "nm": 10.0}  # Å

LARGEST_Q = 1.0  # Å⁻¹; scattering at small angles ends well below
LONGEST_DT = 100.0  # s

# Angles in radians that people choose are simple fractions of π, in three digits (3.14) or more.
FRACTIONS = [math.radians(angle) for angle in (30, 45, 60, 90, 120, 135, 150, 180, 270, 360)]
DIGITS = 6e-4  # relative


def questions(root: Root) -> Iterator[Problem]:
    """Ask what the configuration alone gives reason to ask."""
    analyzer = root.analyzer_parameters
    confirmed = analyzer.units_confirmed
    gap = analyzer.geometry.stator_rotor_gap if root.has_flow else None
    if gap is not None and "stator_rotor_gap" not in confirmed and not _possible(gap):
        yield Problem(GAP, _about_gap(gap) + _to_confirm("stator_rotor_gap", "Å"))
    if "phi" not in confirmed:
        yield from _about_angles(root)


def questions_of_file(root: Root, file: TwoTimeFile) -> Iterator[Problem]:
    """Ask about q and dt where the data file does not know them."""
    analyzer = root.analyzer_parameters
    q, dt, confirmed = analyzer.scattering.wavevector_q, analyzer.dt, analyzer.units_confirmed
    if file.q is None and q is not None and q > LARGEST_Q and "wavevector_q" not in confirmed:
        yield Problem(
            Q,
            f"q = {q:g} Å⁻¹ is beyond small angles; is it in nm⁻¹? {q:g} nm⁻¹ is {q / 10:g} Å⁻¹"
            + _to_confirm("wavevector_q", "Å⁻¹"),
        )
    if file.dt is None and dt is not None and dt > LONGEST_DT and "dt" not in confirmed:
        yield Problem(
            DT,
            f"{dt:g} s between two frames is long; is it in ms? {dt:g} ms is {dt / 1000:g} s"
            + _to_confirm("dt", "s"),
        )


def _to_confirm(name: str, unit: str) -> str:
    return f"; if it is in {unit}, set analyzer_parameters.units_confirmed: [{name}]"


def _possible(gap: float) -> bool:
    return POSSIBLE_GAPS[0] <= gap <= POSSIBLE_GAPS[1]


def _about_gap(gap: float) -> str:
    usual = [
        f"{gap:g} {unit} is {gap * length:g} Å"
        for unit, length in LENGTHS.items()
        if USUAL_GAPS[0] <= gap * length <= USUAL_GAPS[1]
    ]
    meant = f"is it in another unit? {' and '.join(usual)}" if usual else "1 mm is 1e7 Å"
    return f"a gap of {gap:g} Å is not plausible; {meant}"


def _about_angles(root: Root) -> Iterator[Problem]:
    initial = root.initial_parameters
    if root.has_flow:
        for number, bound in enumerate(root.parameter_space.bounds):
            if bound.name == "phi0" and _in_radians((bound.min, bound.max)):
                path = f"parameter_space.bounds.{number}"
                yield Problem(path, _asked("the bounds of phi0", (bound.min, bound.max)))
        for section, values in (("values", initial.start), ("fixed_parameters", initial.fixed)):
            if "phi0" in values and _in_radians([values["phi0"]]):
                path = f"initial_parameters.{section}.phi0"
                yield Problem(path, _asked("phi0", [values["phi0"]]))
    angles = root.experimental_data.phi_angles or []
    if _in_radians(angles):
        yield Problem("experimental_data.phi_angles", _asked("φ", angles))
    for number, each in enumerate(root.phi_filtering.target_ranges):
        ends = (each.min_angle, each.max_angle)
        if root.phi_filtering.enabled and _in_radians(ends):
            yield Problem(f"phi_filtering.target_ranges.{number}", _asked("the range of φ", ends))
    ends = root.preprocessing.phi_range or []
    if _in_radians(ends):
        yield Problem("preprocessing.phi_range", _asked("the range of φ", ends))


def _asked(what: str, angles: Iterable[float]) -> str:
    shown = list(angles)
    radians = ", ".join(f"{angle:g}" for angle in shown)
    degrees = ", ".join(f"{round(math.degrees(angle)):g}" for angle in shown)
    return f"{what}: {radians} looks like radians, but degrees are needed: {degrees}" + _to_confirm(
        "phi", "degrees"
    )


def _in_radians(angles: Iterable[float]) -> bool:
    """Whether all angles but zeros are simple fractions of π, as 1.571 is."""
    given = [abs(angle) for angle in angles if angle]
    return bool(given) and all(
        any(abs(angle - exact) <= DIGITS * exact for exact in FRACTIONS) for angle in given
    )
