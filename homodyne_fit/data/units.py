"""Units that files state, held to the ones used here: Å⁻¹ and degrees."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Literal

from homodyne_fit.errors import InputError, shortened_numbers

if TYPE_CHECKING:
    pass

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
    "about_q",
    "about_values",
    "unconfirmed",
]


ANGSTROM = re.compile(r"(inv|inverse|reciprocal|per)?(a|aa|å|[aå]ng|[aå]ngstr[oö]ms?)")

NANOMETRE = re.compile(r"(inv|inverse|reciprocal|per)?(nm|nanomet(er|re)s?)")

Quantity = Literal["gap", "q", "dt", "phi"]

UNITS: dict[str, str] = {"gap": "Å", "q": "Å⁻¹", "dt": "s", "phi": "degrees"}

# What `units_confirmed` of a configuration calls a quantity.
NAMES = {"gap": "stator_rotor_gap", "q": "wavevector_q", "dt": "dt", "phi": "phi"}

# Gaps in Å that are not asked about, 1 µm to 10 cm, and those of usual shear cells.
POSSIBLE_GAPS = (1e4, 1e9)

USUAL_GAPS = (1e5, 1e8)

LENGTHS = {"m": 1e10, "mm": 1e7, "µm": 1e4, "nm": 10.0}  # Å

# Scattering at small angles ends well below; Å⁻¹.
LARGEST_Q = 0.3

USUAL_Q = (1e-4, LARGEST_Q)

INVERSE_LENGTHS = {"nm⁻¹": 0.1, "µm⁻¹": 1e-4, "m⁻¹": 1e-10}  # Å⁻¹

LONGEST_DT = 100.0  # s

USUAL_DT = (1e-7, LONGEST_DT)

TIMES = {"ms": 1e-3, "µs": 1e-6}  # s

# Angles in radians that people choose are simple fractions of π, in three digits (3.14) or more.
FRACTIONS = [math.radians(angle) for angle in (30, 45, 60, 90, 120, 135, 150, 180, 270, 360)]

DIGITS = 6e-4  # relative


def require_inverse_angstrom(unit: str, where: str, q: Iterable[float]) -> None:
    """Refuse wave vectors that are stated to be in anything but Å⁻¹.

    Parameters
    ----------
    unit : str
        As stated; an empty one states nothing and passes.
    where : str
        File and entry, for the message.
    q : iterable of float
        The values, for the message.
    """
    letters = _letters(unit)
    if NANOMETRE.fullmatch(letters):
        stated = list(q)
        converted = [0.1 * value for value in stated]
        raise InputError(
            f"{where} says that q is in nm⁻¹, but Å⁻¹ is needed: divide q by 10 in the file "
            f"(q = {shortened_numbers(stated)} nm⁻¹ is {shortened_numbers(converted)} Å⁻¹)"
        )
    if letters and not ANGSTROM.fullmatch(letters):
        raise InputError(f"{where} says that q is in '{unit}', but Å⁻¹ is needed")


def require_degrees(unit: str, where: str) -> None:
    """Refuse angles that are stated to be in radians."""
    if "rad" in _letters(unit):
        raise InputError(f"{where} says that φ is in '{unit}', but degrees are needed")


def _letters(unit: str) -> str:
    folded = unicodedata.normalize("NFKC", unit).casefold()
    return "".join(character for character in folded if character.isalpha())


def about_gap(gap: float) -> str | None:
    """What to ask about a gap in Å, or None."""
    if POSSIBLE_GAPS[0] <= gap <= POSSIBLE_GAPS[1]:
        return None
    meant = _in_other_units(gap, LENGTHS, USUAL_GAPS, "Å") or "1 mm is 1e7 Å"
    return f"a gap of {gap:g} Å is not plausible; {meant}"


def about_q(q: float) -> str | None:
    """What to ask about a wave vector in Å⁻¹, or None."""
    if q <= LARGEST_Q:
        return None
    meant = _in_other_units(q, INVERSE_LENGTHS, USUAL_Q, "Å⁻¹") or "1 nm⁻¹ is 0.1 Å⁻¹"
    return f"q = {q:g} Å⁻¹ is beyond small angles; {meant}"


def about_dt(dt: float) -> str | None:
    """What to ask about a time between two frames in seconds, or None."""
    if dt <= LONGEST_DT:
        return None
    meant = _in_other_units(dt, TIMES, USUAL_DT, "s") or "1 ms is 0.001 s"
    return f"{dt:g} s between two frames is long; {meant}"


def about_angles(what: str, angles: Iterable[float]) -> str | None:
    """What to ask about angles in degrees, or None.

    Parameters
    ----------
    what : str
        What they are, to begin the sentence with.
    angles : iterable of float
    """
    shown = list(angles)
    if not _in_radians(shown):
        return None
    radians = ", ".join(f"{angle:g}" for angle in shown)
    degrees = ", ".join(f"{round(math.degrees(angle)):g}" for angle in shown)
    return f"{what}: {radians} looks like radians, but degrees are needed: {degrees}"


def about_values(
    q: float | None, dt: float | None, phi: Iterable[float], angles: str
) -> dict[str, str]:
    """What to ask about a wave vector, a frame time, and angles that are called so."""
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
    """The questions that are not answered yet, each with the answer that would do.

    Parameters
    ----------
    open_questions : mapping
    confirmed : collection
        Quantities that are in the unit asked for.
    answer : callable
        How to say so of a quantity.
    """
    for quantity, text in open_questions.items():
        if quantity not in confirmed:
            yield f"{text}; if it is in {UNITS[quantity]}, {answer(quantity)}"


def _in_other_units(
    value: float, units: Mapping[str, float], usual: tuple[float, float], unit: str
) -> str:
    """Units in which the value would be a usual one."""
    meant = [
        f"{value:g} {name} is {value * factor:g} {unit}"
        for name, factor in units.items()
        if usual[0] <= value * factor <= usual[1]
    ]
    return f"is it in another unit? {' and '.join(meant)}" if meant else ""


def _in_radians(angles: Iterable[float]) -> bool:
    """Whether all angles but zeros are simple fractions of π, as 1.571 is."""
    sizes = [abs(angle) for angle in angles if angle]
    return bool(sizes) and all(
        any(abs(angle - exact) <= DIGITS * exact for exact in FRACTIONS) for angle in sizes
    )
