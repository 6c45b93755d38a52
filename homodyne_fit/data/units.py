"""Units: checks of units in files, and questions about values that look like another unit."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Literal

from homodyne_fit.errors import InputError, shortened_numbers

__all__ = [
    "require_degrees",
    "require_inverse_angstrom",
    "INVERSE_LENGTHS",
    "NAMES",
    "TIMES",
    "UNITS",
    "Quantity",
    "about_angles",
    "about_dt",
    "about_gap",
    "about_labels",
    "about_q",
    "about_values",
    "other_unit",
    "unconfirmed",
]


# Units of wave vectors, with only the letters kept.
ANGSTROM = re.compile(r"(inv|inverse|reciprocal|per)?(a|aa|å|[aå]ng|[aå]ngstr[oö]ms?)")

NANOMETRE = re.compile(r"(inv|inverse|reciprocal|per)?(nm|nanomet(er|re)s?)")

Quantity = Literal["gap", "q", "dt", "phi"]

# The units in this program.
UNITS: dict[str, str] = {"gap": "Å", "q": "Å⁻¹", "dt": "s", "phi": "degrees"}

# Names of the quantities in `units_confirmed` of a configuration.
NAMES = {"gap": "stator_rotor_gap", "q": "wavevector_q", "dt": "dt", "phi": "phi"}

# Gaps without a question: 1 µm to 10 cm, Å.
POSSIBLE_GAPS = (1e4, 1e9)

# Gaps of usual shear cells, Å.
USUAL_GAPS = (1e5, 1e8)

# Other units of a gap, Å.
LENGTHS = {"m": 1e10, "mm": 1e7, "µm": 1e4, "nm": 10.0}

# Largest wave vector without a question, above those of small-angle scattering, Å⁻¹.
LARGEST_Q = 0.3

# Wave vectors of usual measurements, Å⁻¹.
USUAL_Q = (1e-4, LARGEST_Q)

# Other units of a wave vector, Å⁻¹.
INVERSE_LENGTHS = {"nm⁻¹": 0.1, "µm⁻¹": 1e-4, "m⁻¹": 1e-10}

# Longest time between two frames without a question, s.
LONGEST_DT = 100.0

# Frame times of usual measurements, s.
USUAL_DT = (1e-7, LONGEST_DT)

# Other units of a time, s.
TIMES = {"ms": 1e-3, "µs": 1e-6}

# Angles in radians are usually simple fractions of π.
FRACTIONS = [math.radians(angle) for angle in (30, 45, 60, 90, 120, 135, 150, 180, 270, 360)]

# Largest relative rounding error of such an angle: three digits, as in 3.14.
DIGITS = 6e-4


def require_inverse_angstrom(unit: str, where: str, q: Iterable[float]) -> None:
    """Refuse wave vectors with a unit other than Å⁻¹; an empty unit is accepted.

    `where` (file and entry) and the values q are for the message.
    """
    letters = _letters(unit)
    if NANOMETRE.fullmatch(letters):
        values = list(q)
        converted = [0.1 * value for value in values]
        raise InputError(
            f"{where} says that q is in nm⁻¹, but Å⁻¹ is needed: divide q by 10 in the file "
            f"(q = {shortened_numbers(values)} nm⁻¹ is {shortened_numbers(converted)} Å⁻¹)"
        )
    if letters and not ANGSTROM.fullmatch(letters):
        raise InputError(f"{where} says that q is in '{unit}', but Å⁻¹ is needed")


def require_degrees(unit: str, where: str) -> None:
    """Refuse angles with a unit of radians."""
    if "rad" in _letters(unit):
        raise InputError(f"{where} says that φ is in '{unit}', but degrees are needed")


def _letters(unit: str) -> str:
    folded = unicodedata.normalize("NFKC", unit).casefold()
    return "".join(character for character in folded if character.isalpha())


def about_gap(gap: float) -> str | None:
    """The question about a gap in Å, or None."""
    if POSSIBLE_GAPS[0] <= gap <= POSSIBLE_GAPS[1]:
        return None
    meant = _in_other_units(gap, LENGTHS, USUAL_GAPS, "Å") or "1 mm is 1e7 Å"
    return f"a gap of {gap:g} Å is not plausible; {meant}"


def about_q(q: float) -> str | None:
    """The question about a wave vector in Å⁻¹, or None."""
    if q <= LARGEST_Q:
        return None
    meant = _in_other_units(q, INVERSE_LENGTHS, USUAL_Q, "Å⁻¹") or "1 nm⁻¹ is 0.1 Å⁻¹"
    return f"q = {q:g} Å⁻¹ is beyond small angles; {meant}"


def about_labels(q: Iterable[float]) -> str | None:
    """The question about wave vectors of a file that are whole numbers, or None."""
    values = sorted({value for value in q if math.isfinite(value)})
    if not any(values) or any(value != round(value) for value in values):
        return None
    return (
        f"q = {shortened_numbers(values)} in the file looks like labels of bins, which count them; "
        "wave vectors in Å⁻¹ are needed in their place"
    )


def about_dt(dt: float) -> str | None:
    """The question about a time between two frames in seconds, or None."""
    if dt <= LONGEST_DT:
        return None
    meant = _in_other_units(dt, TIMES, USUAL_DT, "s") or "1 ms is 0.001 s"
    return f"{dt:g} s between two frames is long; {meant}"


def about_angles(what: str, angles: Iterable[float]) -> str | None:
    """The question about angles in degrees, or None; `what` is their name in the sentence."""
    values = list(angles)
    if not _in_radians(values):
        return None
    radians = ", ".join(f"{angle:g}" for angle in values)
    degrees = ", ".join(f"{round(math.degrees(angle)):g}" for angle in values)
    return f"{what}: {radians} looks like radians, but degrees are needed: {degrees}"


def about_values(
    q: float | None, dt: float | None, phi: Iterable[float], angles: str
) -> dict[str, str]:
    """The questions about q, dt and φ, by quantity; `angles` is the name of the angles."""
    open_questions = {
        "q": None if q is None else about_q(q),
        "dt": None if dt is None else about_dt(dt),
        "phi": about_angles(angles, phi),
    }
    return {quantity: text for quantity, text in open_questions.items() if text is not None}


def unconfirmed(
    open_questions: Mapping[str, str],
    confirmed: Collection[str],
    answer: Callable[[str], str],
) -> Iterator[str]:
    """Questions about quantities that are not confirmed.

    ``answer(quantity)`` says how to confirm a quantity; it ends the question.
    """
    for quantity, text in open_questions.items():
        if quantity not in confirmed:
            yield f"{text}; if it is in {UNITS[quantity]}, {answer(quantity)}"


def _in_other_units(
    value: float, units: Mapping[str, float], usual: tuple[float, float], unit: str
) -> str:
    """A question with the units in which the value would be usual; empty without such a unit."""
    meant = [
        f"{value:g} {name} is {value * factor:g} {unit}"
        for name, factor in units.items()
        if usual[0] <= value * factor <= usual[1]
    ]
    return f"is it in another unit? {' and '.join(meant)}" if meant else ""


def _in_radians(angles: Iterable[float]) -> bool:
    """Whether all angles except zeros are simple fractions of π, such as 1.571."""
    sizes = [abs(angle) for angle in angles if angle]
    return bool(sizes) and all(
        any(abs(angle - exact) <= DIGITS * exact for exact in FRACTIONS) for angle in sizes
    )


def other_unit(
    value: float, known: Iterable[float], same: float, units: Mapping[str, float], unit: str
) -> str:
    """A question if the value in another unit is a known one, up to the fraction `same`."""
    known = list(known)
    for name, factor in units.items():
        if any(abs(one - value * factor) <= same * abs(one) for one in known):
            return f" (is it in {name}? {value:g} {name} is {value * factor:g} {unit})"
    return ""
