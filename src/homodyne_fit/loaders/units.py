"""Units that files state, held to the ones used here: Å⁻¹ and degrees."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

from homodyne_fit.errors import InputError
from homodyne_fit.loaders.listing import numbers

__all__ = ["require_degrees", "require_inverse_angstrom"]

ANGSTROM = re.compile(r"(inv|inverse|reciprocal|per)?(a|aa|å|[aå]ng|[aå]ngstr[oö]ms?)")
NANOMETRE = re.compile(r"(inv|inverse|reciprocal|per)?(nm|nanomet(er|re)s?)")


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
        values = list(q)
        raise InputError(
            f"{where} says that q is in nm⁻¹, but Å⁻¹ is needed: divide q by 10 in the file "
            f"(q = {numbers(values)} nm⁻¹ is {numbers(0.1 * value for value in values)} Å⁻¹)"
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
