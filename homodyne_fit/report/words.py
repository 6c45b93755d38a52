"""What to know before using single numbers of a fit, in words."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from homodyne_fit.data.dataset import along_one_line
from homodyne_fit.fitting.adequacy import SIGNIFICANT
from homodyne_fit.fitting.goodness import Goodness
from homodyne_fit.fitting.rate_forms import NEEDED, NOT_NEEDED
from homodyne_fit.fitting.result import Estimate, FitResult
from homodyne_fit.fitting.weak_directions import (
    LEAST_CHANGE,
    WeakDirection,
    characteristic_changes,
)
from homodyne_fit.fitting.weighting import Value
from homodyne_fit.model.parameters import PARAMETERS
from homodyne_fit.model.rates import RATE_FLOOR, Model
from homodyne_fit.report.numbers import (
    format_estimate,
    format_number,
    joined_with_and,
    joined_with_or,
    with_unit,
)
from homodyne_fit.report.robust import robust_cautions
from homodyne_fit.report.views import AngleView

__all__ = [
    "adequacy_text",
    "direction_text",
    "forms_text",
    "drawn_outliers_text",
    "goodness_text",
    "hardly_determined_text",
    "no_convergence_text",
    "noise_model_text",
    "odd_frames_text",
    "other_forms",
    "uncertainty_text",
    "warnings",
    "weighting_differences",
    "weighting_text",
]


# Such as `FitResult.J`: value and standard error at some times.


# An angle is named only if its contrast changes by this much.
ANGLE_CHANGE = 0.01

# An angle is named only if its contrast changes so many times more than the mean of all angles.
ANGLE_FACTOR = 2.0

# Rises of chi-squared below this are not told apart.
LEAST_RISE = 1e-3

# Transport vanishes where q² ∫ J dt over the whole measurement is below this.
VANISHING = 0.1

# The contrast is an extrapolation where the correlation falls by less than this part of it.
INCOMPLETE_DECAY = 0.2

# A contrast above this is as good as at its physical limit.
FULL_CONTRAST = 0.9

# A contrast above so many times the median of the angles is out of line.
OUTLYING_CONTRAST = 2.0

# Forms of a rate, as they follow its name.
FORMS = {
    "constant": "constant",
    "power law": "a power law",
    "power law with a constant part": "a power law with a constant part",
}

# Probabilities below this are not told apart.
LEAST_PROBABILITY = 1e-9

# Relative error at mid-measurement up to which a rate is determined.
DETERMINED = 0.1

# Error of an exponent from which on it is not determined.
LOOSE_EXPONENT = 0.5

# A frame is odd whose mean residual deviates by so many times what it does at most frames.
ODD_FRAME = 8.0

# Odd frames are named one by one up to this number.
MOST_ODD_FRAMES = 6

# Errors over those of independent points below which points hardly share noise.
SHARED_NOISE = 1.03

# Pixels in a speckle from which on they are worth a word.
NOTABLE_COHERENCE = 1.2


def direction_text(result: FitResult, direction: WeakDirection) -> str:
    """Such as ``D0 up 10 %, D_offset down 95 Å²/s, contrast down 9 %: chi-squared rises by 2``."""
    scales = characteristic_changes(result.space, result.coordinates, result.objective.dt)
    parts = [
        f"{name} {_change_in_words(result.model, name, change, estimate.value)}"
        for (name, estimate), scale in zip(result.parameters.items(), scales, strict=True)
        if abs(change := direction.changes.get(name, 0.0)) >= LEAST_CHANGE * scale
    ]
    rise = direction.delta_chi2
    if abs(rise) < LEAST_RISE:
        effect = f"chi-squared changes by less than {LEAST_RISE:g}"
    else:
        effect = f"chi-squared {'rises' if rise > 0 else 'falls'} by {_two_digits(abs(rise))}"
    return f"{', '.join([*parts, *_scaling_in_words(result, direction)])}: {effect}"


def _change_in_words(model: Model, name: str, change: float, value: float) -> str:
    """Prefactors in per cent, everything else in its unit: it may be zero."""
    if name in (model.transport_parameters[0], *model.shear_parameters[:1]):
        return _per_cent(change / abs(value))
    return f"{_up_or_down(change)} {with_unit(_two_digits(abs(change)), PARAMETERS[name].unit)}"


def _scaling_in_words(result: FitResult, direction: WeakDirection) -> list[str]:
    """What the means of contrast and offset do, and an angle that does much more."""
    contrast = np.array([estimate.value for estimate in result.contrast])
    change, mean = np.array(direction.contrast_changes), float(np.mean(contrast))
    if not mean > 0:
        return []
    share = float(np.mean(change)) / mean
    shares = change / mean
    unchanged = abs(share) < LEAST_CHANGE
    parts = ["contrast unchanged" if unchanged else f"contrast {_per_cent(share)}"]
    most = int(np.argmax(np.abs(shares)))
    if abs(shares[most]) >= max(ANGLE_CHANGE, ANGLE_FACTOR * abs(share)) and contrast[most] > 0:
        own = _per_cent(change[most] / contrast[most])
        parts[0] += f" ({own} at φ = {format_number(result.objective.phi[most])}°)"
    offset = float(np.mean(direction.offset_changes))
    if abs(offset) >= LEAST_CHANGE * mean:
        parts.append(f"offset {_up_or_down(offset)} {_two_digits(abs(offset))}")
    return parts


def _up_or_down(change: float) -> str:
    return "up" if change > 0 else "down"


def _per_cent(share: float) -> str:
    return f"{_up_or_down(share)} {_two_digits(100 * abs(share))} %"


def _two_digits(value: float) -> str:
    return format_number(float(f"{value:.2g}"))


def warnings(result: FitResult) -> list[str]:
    """What to know before using the numbers of a fit, a sentence or two each.

    The terminal, ``parameters.json`` and the report have the same: a fit that did not converge;
    data that the model does not describe; a flow seen in one direction only; other minima that fit
    as well; transport that vanishes under an inflated contrast; parameters, contrasts and offsets
    at a bound; rates that the data determine though not their power laws; whatever else has an
    infinite error; points that are not weighted although they should be, or of which the weights
    matter more than they may; frames that a robust loss finds to be outliers; error bars that rest
    on less than usual; parameters that can move together; and rates that vanish. What rests on
    errors is said only of a fit that converged: else
    every error is infinite.
    """
    texts = [
        *no_convergence_text(result),
        *_misfit(result),
        *_one_direction(result),
        *_other_minima(result),
        *_vanishing_transport(result),
        *_at_bounds(result),
    ]
    if result.success:
        texts += [*_loose_power_laws(result), *_undetermined_scaling(result)]
    texts += [*_weighting_cautions(result), *robust_cautions(result)]
    return [
        *texts,
        *(note[0].upper() + note[1:] + "." for note in result.uncertainty.notes),
        *hardly_determined_text(result),
        *_vanishing_rates(result),
    ]


def no_convergence_text(result: FitResult) -> list[str]:
    """That the fit did not converge, if it did not."""
    if result.success:
        return []
    return [
        f"The fit did not converge: {result.info.message}. The values are where the search "
        "stopped, not an answer, and their errors do not hold."
    ]


def hardly_determined_text(result: FitResult) -> list[str]:
    """That parameters can move together, if they can."""
    names = result.hardly_determined
    if not (names and result.success):
        return []
    curves = joined_with_and([f"{rate.symbol}(t)" for rate in result.rates])
    return [
        f"Hardly determined one by one: {joined_with_and(names)}. They can move together almost "
        "unnoticed, as is told below the parameters, so none of them should be quoted alone. "
        f"{curves} with their bands take this into account."
    ]


def _vanishing_rates(result: FitResult) -> list[str]:
    """Where a power law with a negative constant part would be negative."""
    values = [(f"{rate.name} {rate.symbol}(t)", rate.at(result.times)[0]) for rate in result.rates]
    return [
        f"The fitted {name} vanishes on {np.count_nonzero(value <= RATE_FLOOR)} of {len(value)} "
        "frames, where the power law would be negative. It is held at zero there, without a band."
        for name, value in values
        if np.any(value <= RATE_FLOOR)
    ]


def uncertainty_text(result: FitResult) -> str:
    """What the error bars assume, and how much wider they are than those of independent points."""
    uncertainty = result.uncertainty
    if uncertainty.speckle is None:
        return "for independent points"
    if uncertainty.typical_widening < SHARED_NOISE:
        # Of pixels and photons only N κ² is known then.
        return (
            "from the noise of speckles, of which points share too little to tell pixels from "
            "photons (found from neighbouring residuals): as for independent points"
        )
    speckle = uncertainty.speckle
    low, high = speckle.pixels.min(), speckle.pixels.max()
    pixels = _rounded(low)
    if high > 1.05 * low:
        pixels += f" to {_rounded(high)}"
    text = f"from the noise of speckles, {pixels} pixels"
    if np.isfinite(speckle.photons):
        text += f" with {format_number(speckle.photons, 2)} photons in each frame"
    if speckle.coherence > NOTABLE_COHERENCE:
        text += f", {format_number(speckle.coherence, 2)} pixels in a speckle"
    return (
        f"{text} (found from neighbouring residuals): "
        f"{format_number(uncertainty.typical_widening, 2)} times those of independent points"
    )


def weighting_text(result: FitResult) -> str:
    """Such as ``by the noise of speckles; as near to least squares as … (p = 0.3)``."""
    weighting = result.weighting
    if weighting is None:
        return ""
    if not weighting.used:
        return f"none: {weighting.note}"
    agrees = weighting.p_value >= SIGNIFICANT
    return (
        "by the noise of speckles that points share; the estimates differ from those of least "
        f"squares {'as' if agrees else 'by more than'} the noise explains "
        f"({_probability(weighting.p_value)})"
    )


def weighting_differences(result: FitResult) -> list[str]:
    """Such as ``mean J = 11400 ± 120 Å²/s; by least squares 11740 ± 460 Å²/s``."""
    weighting = result.weighting
    if weighting is None:
        return []
    return [
        f"{each.name} = {_value_text(each.weighted, each.unit)}; by least squares "
        f"{_value_text(each.least_squares, each.unit)}, {_plain_digits(abs(each.sigmas))} standard "
        f"errors of the difference {'above' if each.sigmas > 0 else 'below'}"
        for each in weighting.differences
    ]


def _value_text(value: Value, unit: str) -> str:
    number, error = value
    return with_unit(format_estimate(number, np.inf if error is None else error), unit)


def _weighting_cautions(result: FitResult) -> list[str]:
    """Points that are not weighted although they should be, or that weights draw elsewhere."""
    weighting = result.weighting
    if weighting is None:
        return []
    if not weighting.used:
        if weighting.automatic:
            return []
        return [
            f"The points are not weighted (weighting: speckle), since {weighting.note}. All values "
            "and errors are those of least squares."
        ]
    if weighting.p_value >= SIGNIFICANT or not weighting.differences:
        return []
    most = max(weighting.differences, key=lambda each: abs(each.sigmas))
    return [
        "The weighted estimates differ from those of least squares by more than the noise explains "
        f"({_probability(weighting.p_value)}), most of all {most.name}, by "
        f"{_plain_digits(abs(most.sigmas))} standard errors of the difference. The model does not "
        "describe the data at all lags alike, and weighted points trust it at short lags more than "
        "least squares does. Do not rely on these errors; compare with weighting: none."
    ]


def _rounded(pixels: float) -> str:
    """Three digits of a number of pixels."""
    return f"{float(f'{pixels:.3g}'):,.0f}"


def forms_text(result: FitResult) -> str:
    """Such as ``J(t) constant, γ̇(t) a power law: the simplest that the data do not reject``."""
    chosen = result.info.rate_forms.get("chosen", {})
    forms = [f"{rate.symbol}(t) {FORMS[chosen[rate.key]]}" for rate in result.rates if chosen]
    if not forms:
        return ""
    return f"{', '.join(forms)}: the simplest that the data do not reject"


def other_forms(result: FitResult) -> list[str]:
    """The next simpler and larger forms of the rates, and what they would make of these."""
    texts = []
    for other in result.info.rate_forms.get("others", []):
        (rate,) = (r for r in result.rates if other["parameter"] in r.parameters)
        needed = other["p_value"] < (NEEDED if other["larger"] else NOT_NEEDED)
        verdict = ("not needed", "needed") if other["larger"] else ("not rejected", "rejected")
        rates = [
            f"{r.symbol} = {with_unit(format_estimate(value['value'], value['stderr']), r.unit)}"
            for r in result.rates
            if (value := other["rates"].get(r.key))
        ]
        name = other["parameter"]
        value = with_unit(format_estimate(other["value"], other["stderr"]), PARAMETERS[name].unit)
        texts.append(
            f"{rate.symbol}(t) {FORMS[other['forms'][rate.key]]}: {verdict[needed]} "
            f"({name} = {value}, {_probability(other['p_value'])})"
            + f"; {', '.join(rates)}"
            * bool(rates)
        )
    return texts


def adequacy_text(result: FitResult) -> str:
    """Such as ``the model describes the data (p = 0.3)``."""
    adequacy = result.adequacy
    if adequacy.adequate is None:
        return f"whether the model describes the data cannot be judged: {adequacy.note}"
    if adequacy.p_value is None:
        return adequacy.note
    does = "describes" if adequacy.adequate else "does not describe"
    return f"the model {does} the data ({_probability(adequacy.p_value)})"


def noise_model_text(goodness: Goodness) -> str:
    """The noise that χ² is counted by, such as ``noise of speckles and photons``."""
    if goodness.noise_model == "speckle":
        return "noise of speckles and photons"
    return "noise of independent points"


def goodness_text(result: FitResult) -> str:
    """Such as ``reduced χ² 1.02 (noise of speckles and photons), NRMSE 0.31``; or nothing."""
    goodness = result.goodness
    if not goodness.is_known:
        return ""
    chi2 = format_number(goodness.reduced_chi2, 3)
    if np.isnan(goodness.reduced_chi2):
        chi2 = "not known"
    nrmse = format_number(goodness.nrmse, 3)
    return (
        f"reduced χ² {chi2} ({noise_model_text(goodness)}), NRMSE {nrmse}"
        f"{drawn_outliers_text(goodness)}"
    )


def drawn_outliers_text(goodness: Goodness) -> str:
    """What is added to a number of residuals that a robust loss has changed."""
    return ", outliers drawn to the fit" if goodness.of_pseudo_data else ""


def odd_frames_text(views: Sequence[AngleView]) -> list[str]:
    """Frames at which the data lie off the fit at all lags, unlike those around them."""
    means = np.array([view.frames.mean for view in views])
    counts = np.isfinite(means).sum(axis=0)
    mean = np.where(counts > 0, np.nansum(means, axis=0) / np.maximum(counts, 1), np.nan)
    known = np.isfinite(mean)
    # What varies slowly is a matter of the model.
    padded = np.pad(np.where(known, mean, 0.0), 2, mode="edge")
    steps = mean - np.median(sliding_window_view(padded, 5), axis=1)
    typical = 1.4826 * float(np.median(np.abs(steps[known]))) if known.any() else 0.0
    odd = np.flatnonzero(known & (np.abs(steps) > ODD_FRAME * typical) & (typical > 0))
    if not len(odd):
        return []
    named = [
        f"{k + 1} (at {format_number(float(views[0].frames.time[k]))} s, "
        f"{_plain_digits(float(abs(steps[k])))} {'above' if steps[k] > 0 else 'below'})"
        for k in odd[:MOST_ODD_FRAMES]
    ]
    if len(odd) > MOST_ODD_FRAMES:
        named.append(f"{len(odd) - MOST_ODD_FRAMES} others")
    them = "frame" if len(odd) == 1 else "frames"
    return [
        f"c2 of all pairs with {them} {joined_with_and(named)} lies off the fit: a fault of the "
        f"measurement rather than of the model. Leave the {them} out (experimental_data: "
        "mask_frames) and fit again. They are counted from the first frame fitted, which is 1."
    ]


def _probability(p: float) -> str:
    return f"p = {format_number(p, 2)}" if p >= LEAST_PROBABILITY else f"p < {LEAST_PROBABILITY:g}"


def _misfit(result: FitResult) -> list[str]:
    """Where residuals are larger than the noise allows, and what may be the reason."""
    worst = result.adequacy.worst
    if result.adequacy.adequate is not False or worst is None:
        return []
    angle = "averaged over the angles"
    if worst.phi is not None:
        angle = f"at φ = {format_number(worst.phi)}°"
    lags, ages = (
        f"{_plain_digits(low)} to {_plain_digits(high)} s" for low, high in (worst.lags, worst.ages)
    )
    side = "above" if worst.mean > 0 else "below"
    return [
        f"The model does not describe the data ({_probability(result.adequacy.p_value or 0.0)}): "
        f"{angle}, c2 at lags of {lags} and ages of {ages} lies {_plain_digits(worst.sigmas)} "
        f"standard errors {side} the fit, by {format_number(100 * worst.share, 2)} % of the "
        "contrast. The error bars hold only for a model that describes the data. "
        f"Look at the residuals in the report: {joined_with_or(_reasons(result))}."
    ]


def _plain_digits(value: float) -> str:
    """In two digits, but not tens."""
    return format_number(round(value) if value >= 10 else value, 6 if value >= 10 else 2)


def _reasons(result: FitResult) -> list[str]:
    """What may be wrong with the model."""
    mode, several = result.objective.scaling.mode, len(result.contrast) > 1
    reasons = []
    if mode == "constant":
        reasons.append("contrast and offset are held, and may be wrong (per_angle_mode: auto)")
    elif several and mode in ("averaged", "fourier"):
        reasons.append("contrast and offset may differ between the angles (per_angle_mode: auto)")
    if several and not result.model.has_flow:
        reasons.append("the sample may flow (try the laminar_flow model)")
    if any(e.at_bound for e in (*result.parameters.values(), *result.contrast, *result.offset)):
        reasons.append("a bound may keep the fit from the data")
    return [
        *reasons,
        "the sample may age otherwise than by a power law, or in jumps (fit parts of it: frames)",
        "c2 may oscillate, as where parts of the sample drift apart or the beam moves",
    ]


def _one_direction(result: FitResult) -> list[str]:
    """All angles along one line, so that a shear rate and cos(φ0 − φ) come as a product only."""
    flow = [*result.model.shear_parameters, "phi0"] if result.model.has_flow else []
    free = [name for name in flow if not result.parameters[name].fixed]
    if "phi0" not in free or len(free) == 1 or not along_one_line(result.objective.phi):
        return []
    return [
        "All angles lie along one line: the direction of the flow and the shear rate stand in for "
        "each other. Hold phi0 at a known direction, take more angles, or the static model."
    ]


def _other_minima(result: FitResult) -> list[str]:
    """Minima that the data do not tell from the one reported."""
    texts = []
    for other in result.info.alternatives:
        values = other["parameters"]
        if other["mirror"]:
            texts.append(
                f"phi0 = {format_number(result.parameters['phi0'].value, 4)}° and "
                f"{format_number(values['phi0'], 4)}° describe these angles equally well. Take "
                "an angle that is neither along nor across the others, or narrow the bounds of "
                "phi0 to the direction that you know."
            )
        else:
            place = ", ".join(
                f"{name} = {'∞' if value is None else format_number(value, 4)}"
                for name, value in values.items()
            )
            rise = format_number(other["delta_chi2"], 2)
            texts.append(
                f"Another minimum fits hardly worse (Δχ² = {rise}): {place}. The data do not "
                "decide between the two."
            )
    return texts


def _vanishing_transport(result: FitResult) -> list[str]:
    """J so small that a weak decay of a large contrast stands for a strong one of a small one."""
    o = result.objective
    transport = np.trapezoid(result.J(result.times)[0], dx=o.dt)
    share = float(np.max(o.q) ** 2 * transport)
    contrast = np.array([estimate.value for estimate in result.contrast])
    at_bound = np.array([estimate.at_bound for estimate in result.contrast])
    fall = result.falls
    limit = (contrast >= FULL_CONTRAST) | (at_bound & (contrast > 0))
    usual = float(np.median(contrast))
    inflated = limit | (fall < INCOMPLETE_DECAY) | (contrast > OUTLYING_CONTRAST * usual)
    if not (share < VANISHING and np.any(contrast[inflated] > 0)):
        return []
    worst = int(np.argmax(np.where(inflated, contrast / np.maximum(fall, 1e-12), -1.0)))
    where = "" if len(contrast) == 1 else f" at φ = {format_number(o.phi[worst])}°"
    seen = fall[worst] * contrast[worst]
    text = (
        f"Transport all but vanishes: q² ∫ J dt over the whole measurement is only "
        f"{format_number(share, 2)}, while the contrast{where} is "
        f"{format_number(contrast[worst], 3)}"
    )
    if at_bound[worst]:
        text += ", its bound"
    if contrast[worst] > OUTLYING_CONTRAST * usual:
        text += f" (the median of the angles is {format_number(usual, 3)})"
    if fall[worst] < INCOMPLETE_DECAY:
        text += f", though the fitted c2 falls by {format_number(seen, 2)} at most"
    return [
        f"{text}. A slow decay of a large contrast looks like a faster one of a smaller contrast, "
        "so neither J(t) nor the contrast should be quoted. Bound the contrast by what a sample "
        "of known contrast shows, share it between the angles, or measure for longer."
    ]


def _at_bounds(result: FitResult) -> list[str]:
    bounds = [
        f"{name} ({_bound(result, name)})" for name, e in result.parameters.items() if e.at_bound
    ]
    texts = []
    if bounds:
        verb = "is at its bound" if len(bounds) == 1 else "are at their bounds"
        texts.append(
            f"{joined_with_and(bounds)} {verb}: the sum of squares still falls beyond. A parameter "
            "at its bound has no error; the errors of the others let it move. Widen the bound only "
            "where physics allows more, and rather hold a parameter at a known value "
            f"(fixed_parameters){_offset_to_hold(result)}.{_beyond_bounds(result)}"
        )
    for kind, estimates in (("contrast", result.contrast), ("offset", result.offset)):
        flags = [estimate.at_bound for estimate in estimates]
        if any(flags):
            values = sorted({e.value for e, flag in zip(estimates, flags, strict=True) if flag})
            bound = joined_with_and([format_number(value) for value in values])
            texts.append(
                f"The {kind} is at its bound at {_angles_where(result, flags)} ({bound}), and has "
                f"no error there. Widen the bounds of the {kind} if it can be beyond; if not, the "
                "model or the data at that angle are in doubt."
            )
    return texts


def _beyond_bounds(result: FitResult) -> str:
    """The rates that the data ask for beyond bounds that were given."""
    asked = result.info.beyond_bounds
    wanted = [
        f"{rate.symbol} = {with_unit(format_number(asked[rate.key], 2), rate.unit)}"
        for rate in result.rates
        if rate.key in asked
    ]
    if not wanted:
        return ""
    when = f"at {format_number(result.space.tau, 3)} s"
    return (
        f" Without the bounds that were given, part of the data leads to {joined_with_and(wanted)} "
        f"{when}."
    )


def _offset_to_hold(result: FitResult) -> str:
    """Name the constant part of each power law that is at a bound, unless it is held already."""
    parameters = result.model.parameters
    offsets = [
        parameters[law + 2]
        for law in result.space.power_laws
        if any(result.parameters[name].at_bound for name in parameters[law : law + 3])
        and not result.parameters[parameters[law + 2]].fixed
    ]
    if not offsets:
        return ""
    names = joined_with_and(offsets)
    return f": first {names} at 0, where a power law alone can describe the sample"


def _bound(result: FitResult, name: str) -> str:
    """Which bound a parameter sits at."""
    estimate, space = result.parameters[name], result.space
    index = result.model.parameters.index(name)
    middle = (space.lower[index] + space.upper[index]) / 2
    side = "lower" if estimate.value < middle else "upper"
    return f"{side}, {with_unit(format_number(estimate.value), estimate.unit)}"


def _loose_power_laws(result: FitResult) -> list[str]:
    """Parameters that are not determined, by the rate they belong to."""
    texts = []
    left = [name for name, e in result.parameters.items() if np.isinf(e.stderr)]
    middle = result.space.tau
    for rate in result.rates:
        names, symbol = rate.parameters, f"{rate.symbol}(t)"
        (value,), (error,) = rate.at(middle)
        loose = [name for name in names if _is_loose(result.parameters[name], name, names, value)]
        if loose and 0 < error <= DETERMINED * value:
            left = [name for name in left if name not in names]
            texts.append(
                f"{symbol} is determined, {with_unit(format_estimate(value, error), rate.unit)} at "
                f"{format_number(middle, 3)} s, but its power law is not: the data do not "
                f"determine {joined_with_and(loose)}. Quote {symbol} with its band instead."
            )
    if left:
        texts.append(
            f"The data do not determine {joined_with_and(left)}: the error is infinite, the value "
            "arbitrary. Hold what is known at its value and fit again."
        )
    return texts


def _is_loose(estimate: Estimate, name: str, law: Sequence[str], rate: float) -> bool:
    """Whether the error of a parameter of a power law is as large as what it could matter by."""
    prefactor, exponent, _ = law
    if name == exponent:
        scale = max(abs(estimate.value), LOOSE_EXPONENT)
    elif name == prefactor:
        scale = abs(estimate.value)
    else:
        scale = max(abs(estimate.value), rate)
    return bool(estimate.stderr > scale)


def _undetermined_scaling(result: FitResult) -> list[str]:
    texts = []
    for kind, estimates in (("contrast", result.contrast), ("offset", result.offset)):
        flags = [bool(np.isinf(estimate.stderr)) for estimate in estimates]
        if any(flags):
            texts.append(f"The data do not determine the {kind} at {_angles_where(result, flags)}.")
    return texts


def _angles_where(result: FitResult, flags: Sequence[bool]) -> str:
    if len(flags) > 1 and all(flags):
        return "every angle"
    phi = [p for p, flag in zip(result.objective.phi, flags, strict=True) if flag]
    return "φ = " + ", ".join(f"{format_number(p)}°" for p in phi)
