"""Numbers, and numbers with errors, as they appear in sentences and tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal

import numpy as np

__all__ = [
    "common_order",
    "format_estimate",
    "format_number",
    "format_time",
    "joined_with_and",
    "joined_with_or",
    "power_of_ten",
    "with_unit",
]

MINUTE = 60.0
HOUR = 3600.0

# Powers of ten that are written out.
PLAIN_ORDERS = range(-3, 6)
SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def format_number(value: float, digits: int = 6) -> str:
    """A number in at most so many digits, with a power of ten for an exponent."""
    if not np.isfinite(value):
        return "not a number" if np.isnan(value) else "∞" if value > 0 else "−∞"
    mantissa, _, exponent = f"{value:.{digits}g}".replace("-", "−").partition("e")
    if not exponent:
        return mantissa
    return f"{mantissa} × {power_of_ten(int(exponent.replace('−', '-')))}"


def format_estimate(value: float, stderr: float) -> str:
    """``value ± error``: the error in two digits, the value rounded to the same place.

    Without a finite, positive error the value alone; with an error beyond the precision of the
    value each rounded on its own.
    """
    if not (np.isfinite(value) and np.isfinite(stderr) and stderr > 0):
        return format_number(value)
    exact, error = Decimal(value), Decimal(f"{stderr:.1e}")
    place = error.adjusted() - 1
    if exact and exact.adjusted() - place > 15:
        return f"{format_number(value, 16)} ± {format_number(stderr, 2)}"
    rounded = exact.quantize(Decimal(1).scaleb(place))
    order = max(rounded.adjusted() if rounded else place, error.adjusted())
    if order in PLAIN_ORDERS:
        return f"{_fixed(rounded, place)} ± {_fixed(error, place)}"
    pair = (_fixed(number.scaleb(-order), place - order) for number in (rounded, error))
    return f"({' ± '.join(pair)}) × {power_of_ten(order)}"


def common_order(values: Iterable[float]) -> int:
    """The power of ten that several numbers are written in; 0 if all of them are written out."""
    known = [abs(value) for value in values if value != 0 and np.isfinite(value)]
    orders = {int(np.floor(np.log10(value))) for value in known}
    return 0 if orders <= set(PLAIN_ORDERS) else max(orders)


def format_time(seconds: float) -> str:
    """Seconds, and in brackets minutes or hours where these say more: ``5400 s (1.5 h)``."""
    text = f"{format_number(seconds, 4)} s"
    if seconds >= HOUR:
        return f"{text} ({format_number(seconds / HOUR, 3)} h)"
    return f"{text} ({format_number(seconds / MINUTE, 3)} min)" if seconds > 2 * MINUTE else text


def with_unit(text: str, unit: str) -> str:
    """Number and unit: ``12 Å²/s``, but ``12°``; the number alone where there is no unit."""
    return f"{text}°" if unit == "°" else f"{text} {unit}".rstrip()


def joined_with_and(names: Sequence[str]) -> str:
    """``a, b and c``."""
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def joined_with_or(texts: Sequence[str]) -> str:
    """``a, b, or c``."""
    return ", or ".join(filter(None, [", ".join(texts[:-1]), texts[-1]]))


def _fixed(number: Decimal, place: int) -> str:
    text = f"{number:.{max(0, -place)}f}"
    return text.replace("-", "−") if number else text.removeprefix("-")


def power_of_ten(exponent: int) -> str:
    """Such as ``10⁻⁴``."""
    return f"10{str(exponent).translate(SUPERSCRIPTS)}"
