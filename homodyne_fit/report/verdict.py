"""The outcome of a fit for who has a minute: three lights, two sentences, and what to quote."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from homodyne_fit.fitting.result import Estimate, FitResult, Rate
from homodyne_fit.report.numbers import (
    common_order,
    format_estimate,
    format_number,
    format_time,
    joined_with_and,
    power_of_ten,
    with_unit,
)
from homodyne_fit.report.words import LOOSE_EXPONENT, adequacy_text

__all__ = [
    "Light",
    "Quote",
    "QuoteRow",
    "QuoteTable",
    "Verdict",
    "judge",
    "quotable",
    "quote_table",
]

# Relative error up to which a rate at some time may be quoted.
QUOTABLE = 0.3

# Error of the direction of the flow from which on it is not determined, degrees.
LOOSE_DIRECTION = 10.0

# Times at which rates are quoted, as shares of the measurement.
QUOTED_TIMES = (0.1, 0.5, 1.0)


@dataclass(frozen=True)
class Light:
    """One of the three questions; `level` is good, caution or bad, `answer` says the same."""

    question: str
    level: str
    answer: str


@dataclass(frozen=True)
class Verdict:
    """The outcome: `level` is good, caution or bad; two sentences, and the three questions."""

    level: str
    headline: str
    sentences: tuple[str, str]
    lights: tuple[Light, Light, Light]


def judge(result: FitResult, cautions: bool) -> Verdict:
    """Judge a fit.

    Parameters
    ----------
    cautions : bool
        Whether there are cautions beyond those about weak directions.
    """
    lights = (_converged(result), _adequate(result), _determined(result))
    if not result.success:
        level, headline = "bad", "The fit did not converge. Do not use its numbers."
    elif result.adequacy.adequate is False:
        level, headline = "bad", "The fit converged, but the model does not describe the data."
    elif cautions:
        level, headline = "caution", "The fit converged, with cautions."
    else:
        level, headline = "good", "The fit converged."
    return Verdict(level, headline, (_first_sentence(result), _second_sentence(result)), lights)


def _converged(result: FitResult) -> Light:
    if result.success:
        return Light("Converged?", "good", "yes")
    return Light("Converged?", "bad", "no")


def _adequate(result: FitResult) -> Light:
    question, p = "Model describes the data?", result.adequacy.p_value
    match result.adequacy.adequate:
        case True:
            return Light(question, "good", "yes")
        case False:
            answer = "no" if p is None else f"no, p {_below(p)}"
            return Light(question, "bad", answer)
    return Light(question, "caution", "cannot be judged")


def _below(p: float) -> str:
    return f"= {format_number(p, 1)}" if p >= 1e-9 else "< 10⁻⁹"


def _determined(result: FitResult) -> Light:
    question = "Data fix the answer?"
    if not result.success:
        return Light(question, "bad", "no")
    fixed, loose = _fixed_and_loose(result)
    if loose:
        return Light(question, "caution" if fixed else "bad", "in part" if fixed else "no")
    if result.adequacy.adequate is False:
        return Light(question, "caution", "only if the model were right")
    if not all(_is_determined(result, name) for name in _free(result)):
        return Light(question, "caution", "the curves, not every parameter")
    if result.hardly_determined:
        return Light(question, "good", "yes, the curves best")
    return Light(question, "good", "yes, every parameter")


def _free(result: FitResult) -> list[str]:
    return [name for name, estimate in result.parameters.items() if not estimate.fixed]


def _is_determined(result: FitResult, name: str) -> bool:
    """Whether a parameter may be quoted with its error."""
    estimate = result.parameters[name]
    if name in ("alpha", "beta"):
        scale = LOOSE_EXPONENT
    elif name == "phi0":
        scale = LOOSE_DIRECTION
    else:
        scale = abs(estimate.value)
    return bool(0 < estimate.stderr <= scale)


def _fixed_and_loose(result: FitResult) -> tuple[list[str], list[str]]:
    """Those of the quantities that the data fix, with how well, and those that they do not."""
    fixed, loose = [], []
    for rate in result.rates:
        (value,), (error,) = rate.at(result.space.tau)
        if 0 < error <= QUOTABLE * value:
            fixed.append(f"{rate.symbol}(t) to {_share(error / value)}")
        elif not _is_given(result, rate):
            loose.append(f"{rate.symbol}(t)")
        else:
            fixed.append(f"{rate.symbol}(t), which is held")
    if "phi0" in _free(result):
        error = result.parameters["phi0"].stderr
        if _is_determined(result, "phi0"):
            fixed.append(f"the direction of the flow to {format_number(float(f'{error:.2g}'))}°")
        else:
            loose.append("the direction of the flow")
    return fixed, loose


def _is_given(result: FitResult, rate: Rate) -> bool:
    return all(
        result.parameters[name].fixed and name not in result.not_needed for name in rate.parameters
    )


def _share(share: float) -> str:
    return f"{format_number(float(f'{100 * share:.2g}'))} %"


def _first_sentence(result: FitResult) -> str:
    if not result.success:
        message = result.info.message
        return (
            f"{message[:1].upper()}{message[1:].removesuffix('.')}. The values below are where the "
            "search stopped, not an answer."
        )
    text = adequacy_text(result)
    if result.adequacy.adequate is False:
        return (
            f"The search found its minimum, but {text}: values and error bars below may be wrong "
            "by more than they say."
        )
    if result.adequacy.adequate is None:
        return f"The search found its minimum; {text}."
    return f"The search found its minimum, and {text}."


def _second_sentence(result: FitResult) -> str:
    if not result.success:
        return "Without a minimum nothing is known of what the data fix."
    fixed, loose = _fixed_and_loose(result)
    parts = []
    if fixed:
        middle = f"at mid-measurement ({format_time(result.space.tau)}) "
        parts.append(f"{middle}the data fix {joined_with_and(fixed)}")
    if loose:
        parts.append(f"{'they' if fixed else 'the data'} do not fix {joined_with_and(loose)}")
    free = [name for name in _free(result) if name != "phi0"]
    single = [name for name in free if not _is_determined(result, name)]
    traded = [name for name in result.hardly_determined if _is_determined(result, name)]
    if single and fixed:
        alone = "alone" if len(single) == 1 else "one by one"
        parts.append(f"they do not fix {joined_with_and(single)} {alone}, so quote the curves")
    elif len(traded) > 1:
        parts.append(
            f"{joined_with_and(traded)} can trade off against each other within their errors, so "
            "rather quote the curves"
        )
    text = "; ".join(parts)
    if result.adequacy.adequate is False:
        return f"If the model were right: {text}."
    return f"{text[:1].upper()}{text[1:]}."


@dataclass(frozen=True)
class Quote:
    """A number that may be quoted: what it is, and value ± error with its unit."""

    name: str
    text: str
    meaning: str


@dataclass(frozen=True)
class QuoteRow:
    """A quantity at some times: values and errors in its unit; None where it has none."""

    name: str
    unit: str
    numbers: tuple[tuple[float, float] | None, ...]

    @property
    def texts(self) -> tuple[str, ...]:
        """Value ± error at each time; "not determined" where that says nothing."""
        return tuple("" if pair is None else _quoted(*pair) for pair in self.numbers)

    def in_power_of_ten(self) -> QuoteRow:
        """The same with the power of ten of its largest value in its unit, where there is one."""
        known = [pair[0] for pair in self.numbers if pair and _is_known(*pair)]
        order = common_order(known)
        if order == 0:
            return self
        numbers = tuple(
            None if pair is None else (pair[0] / 10**order, pair[1] / 10**order)
            for pair in self.numbers
        )
        return QuoteRow(self.name, f"{power_of_ten(order)} {self.unit}".rstrip(), numbers)


@dataclass(frozen=True)
class QuoteTable:
    """Curves at stated times, seconds, and their means over the frames as the last column."""

    times: tuple[float, ...]
    rows: tuple[QuoteRow, ...]


def quote_table(result: FitResult) -> QuoteTable:
    """Rates, relaxation time and strain at some times; "not determined" where they are not."""
    last = result.objective.n_frames - 1
    frames = sorted({max(1, round(share * last)) for share in QUOTED_TIMES})
    times = result.times[frames]
    rows = []
    for rate, mean in zip(result.rates, (result.mean_J, result.mean_gamma_dot), strict=False):
        pairs = [*zip(*rate.at(times), strict=True), mean()]
        rows.append(QuoteRow(rate.symbol, rate.unit, _pairs(pairs)))
    q = result.objective.q
    if np.ptp(q) == 0:
        values, errors = result.J(times)
        tau = 1 / (q[0] ** 2 * values)
        pairs = zip(tau, tau * errors / values, strict=True)
        rows.append(QuoteRow("relaxation time 1/(q² J)", "s", (*_pairs(pairs), None)))
    if result.model.has_flow:
        values, errors = (each[frames] for each in result.strain())
        pairs = zip(values, errors, strict=True)
        rows.append(QuoteRow("strain γ since the first frame", "", (*_pairs(pairs), None)))
    return QuoteTable(tuple(times.tolist()), tuple(rows))


def _pairs(pairs: Iterable[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    return tuple((float(value), float(error)) for value, error in pairs)


def _quoted(value: float, error: float) -> str:
    """Value ± error where that says something."""
    if not _is_known(value, error):
        return "not determined"
    return format_estimate(value, error) if error else format_number(value, 4)


def _is_known(value: float, error: float) -> bool:
    return error == 0 or 0 < error <= QUOTABLE * value


def quotable(result: FitResult) -> list[Quote]:
    """Direction of the flow, exponents and scaling where the data determine them."""
    meanings = {
        "phi0": "direction of the flow φ0",
        "alpha": "exponent of J(t)",
        "beta": "exponent of γ̇(t)",
    }
    quotes = [
        Quote(name, _estimate(result.parameters[name]), meaning)
        for name, meaning in meanings.items()
        if name in result.parameters
        and _is_determined(result, name)
        and name not in result.hardly_determined
    ]
    for rate in result.rates:
        if set(rate.parameters[1:]) <= set(result.not_needed):
            quotes.append(Quote(f"{rate.symbol}(t)", "constant", f"form of {rate.symbol}(t)"))
    for kind, estimates in (("contrast", result.contrast), ("offset", result.offset)):
        values = [estimate.value for estimate in estimates]
        if max(values) - min(values) <= 1e-12 * max(map(abs, values)):
            if 0 < estimates[0].stderr < np.inf:
                shared = " of all angles" * (len(values) > 1)
                quotes.append(Quote(kind, _estimate(estimates[0]), f"{kind}{shared}"))
        else:
            low, high = (format_number(value, 4) for value in (min(values), max(values)))
            span = low if low == high else f"{low} to {high}"
            quotes.append(Quote(kind, span, f"{kind} over the angles"))
    return quotes


def _estimate(estimate: Estimate) -> str:
    return with_unit(format_estimate(estimate.value, estimate.stderr), estimate.unit)
