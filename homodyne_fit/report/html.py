"""The report of a fit: one HTML file that holds all it shows, and draws itself."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from homodyne_fit.atomic import replacing
from homodyne_fit.data.dataset import TwoTimeData
from homodyne_fit.data.provenance import Provenance
from homodyne_fit.fitting.result import Estimate, FitResult
from homodyne_fit.model.parameters import PARAMETERS
from homodyne_fit.posterior.draws import PosteriorSummary
from homodyne_fit.report.moves import weakest_move
from homodyne_fit.report.numbers import (
    format_estimate,
    format_number,
    format_time,
)
from homodyne_fit.report.page_data import MOVED_POINTS, most_pixels, page_data, shown_frames
from homodyne_fit.report.page_files import PAGE, render_page
from homodyne_fit.report.posterior import posterior_html
from homodyne_fit.report.robust import robust_text
from homodyne_fit.report.still_pictures import still_pictures
from homodyne_fit.report.verdict import judge, quotable, quote_table
from homodyne_fit.report.views import AngleView, angle_views
from homodyne_fit.report.words import (
    adequacy_text,
    direction_text,
    drawn_outliers_text,
    forms_text,
    hardly_determined_text,
    noise_model_text,
    odd_frames_text,
    other_forms,
    uncertainty_text,
    warnings,
    weighting_differences,
    weighting_text,
)

__all__ = ["render_report", "write_report"]

# Colours of correlations −1, 0 and 1.
NEGATIVE, NEUTRAL, POSITIVE = (33, 102, 172), (247, 247, 247), (178, 24, 43)


def write_report(
    path: Path,
    data: TwoTimeData,
    result: FitResult,
    config: dict[str, Any] | None = None,
    provenance: Provenance | None = None,
    posterior: PosteriorSummary | None = None,
) -> None:
    """Write a self-contained HTML report; the file appears whole or not at all.

    Parameters
    ----------
    path : Path
    data : TwoTimeData
        That `result` was fitted to.
    result : FitResult
    config : dict, optional
        The configuration of the fit, shown as it is.
    provenance : Provenance, optional
        When and from what the result was made; that of a fit to `data` now by default.
    posterior : PosteriorSummary, optional
        What the draws of the posterior say.
    """
    text = render_report(data, result, config, provenance, posterior)
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def render_report(
    data: TwoTimeData,
    result: FitResult,
    config: dict[str, Any] | None = None,
    provenance: Provenance | None = None,
    posterior: PosteriorSummary | None = None,
) -> str:
    """The text of the report."""
    provenance = provenance or Provenance.of(data)
    views = list(angle_views(data, result, most_pixels(data.n_angles)))
    # That parameters can move together is told where they do, and more of it.
    folded = hardly_determined_text(result)
    serious = [text for text in warnings(result) if text not in folded]
    serious += odd_frames_text(views)
    move = weakest_move(result, shown_frames(result, MOVED_POINTS))
    worst = int(np.argmax([view.rms for view in views]))
    doubtful = not result.success or result.adequacy.adequate is False
    return render_page(
        "report.html",
        *PAGE,
        "fit.js",
        numbers=page_data(data, result, views, move),
        result=result,
        source=data.source,
        notes=data.notes,
        title=Path(data.source).name,
        facts=_facts(data, result),
        verdict=judge(result, bool(serious)),
        cautions=serious,
        doubtful=doubtful,
        # Where something is wrong, the page begins with the angle where it is largest.
        first=worst if doubtful or serious else 0,
        show_residuals=doubtful,
        quote_table=quote_table(result),
        format_time=format_time,
        quotes=quotable(result),
        error_bars=_sentence(uncertainty_text(result)),
        weights=[text for _, text in _weights(result)],
        static_pictures=still_pictures(result, data.times, views[worst]),
        has_move=move is not None,
        no_move="No slider along the weakest direction: it leads to a bound, or nowhere.",
        correlation=_correlation(result),
        weak_cautions=folded,
        weak_directions=[direction_text(result, weak) for weak in result.weak_directions],
        weakest=result.weakest and direction_text(result, result.weakest),
        parameters=[_parameter_row(result, name) for name in result.parameters],
        forms=forms_text(result),
        other_forms=other_forms(result),
        middle=format_number(result.space.tau, 4),
        several_q=bool(np.ptp(data.q) > 0),
        angles=[_angle_row(data, result, k, view) for k, view in enumerate(views)],
        adequacy=f"{adequacy_text(result)}.",
        quality=_quality(result),
        posterior=posterior_html(posterior, result),
        search=[*_search_facts(data, result), *_layers(result)],
        details=_details(result, config, provenance),
        written=datetime.fromisoformat(provenance.created).strftime("%Y-%m-%d %H:%M UTC%z"),
    )


def _sentence(message: str) -> str:
    return f"{message[:1].upper()}{message[1:].removesuffix('.')}."


def _facts(data: TwoTimeData, result: FitResult) -> list[str]:
    """The measurement in figures."""
    n = data.n_frames
    angles = f"{data.n_angles} angles" if data.n_angles > 1 else "1 angle"
    facts = [
        angles,
        f"{n} frames of {format_number(data.dt)} s = {format_time(n * data.dt)}",
        f"q = {_span(data.q)} Å⁻¹",
    ]
    if result.model.has_flow:
        facts.append(f"gap {format_number(result.objective.gap * 1e-4)} µm")
    expected = data.n_angles * n * (n - 1) // 2
    missing = expected - result.n_points
    share = f" ({100 * missing / expected:.2g} % missing)" if missing else ""
    return [
        *facts,
        f"{result.n_points:,} points{share}",
        f"noise of a point {format_number(result.noise, 3)}",
    ]


def _search_facts(data: TwoTimeData, result: FitResult) -> list[tuple[str, str]]:
    """The search in figures."""
    info = result.info
    return [
        ("end of the search", info.message),
        *_weights(result),
        *([("Robust loss", robust)] if (robust := robust_text(result)) else []),
        (
            "½ Σ s²ρ(residual²/s²)" if result.robust else "½ Σ residual²",
            f"{format_number(info.cost_initial)} → {format_number(result.cost)}",
        ),
        ("contrast and offset", result.objective.scaling.mode),
        ("time taken", f"{format_number(info.seconds, 2)} s"),
        ("passes over the data", f"{info.passes:.1f}"),
    ]


def _weights(result: FitResult) -> list[tuple[str, str]]:
    """How the points were weighted, if that was asked for."""
    text, differences = weighting_text(result), weighting_differences(result)
    return [("Weights", _sentence("; ".join([text, *differences])))] if text else []


def _quality(result: FitResult) -> list[tuple[str, str]]:
    """Numbers of the quality of the fit by name."""
    goodness = result.goodness
    if not goodness.is_known:
        return []
    drawn = drawn_outliers_text(goodness)
    numbers = {
        f"reduced χ² ({noise_model_text(goodness)}{drawn})": (goodness.reduced_chi2, 3),
        f"RMS residual{drawn}": (goodness.rms, 4),
        f"NRMSE{drawn}": (goodness.nrmse, 3),
        "free parameters": (goodness.n_free, 4),
        "points": (float(goodness.n_points.sum()), 9),
        "independent points that say as much": (goodness.n_independent, 3),
        "AIC": (goodness.aic, 9),
        "BIC": (goodness.bic, 9),
    }
    return [
        (name, "not known" if np.isnan(value) else format_number(value, digits))
        for name, (value, digits) in numbers.items()
    ]


def _layers(result: FitResult) -> list[tuple[str, str]]:
    """Name and effect of each part of the search, layers without any included."""
    return [(name.replace("_", " "), layer["effect"]) for name, layer in result.info.layers.items()]


def _span(values: NDArray[np.float64]) -> str:
    low, high = format_number(values.min()), format_number(values.max())
    return low if low == high else f"{low} to {high}"


def _parameter_row(result: FitResult, name: str) -> dict[str, str]:
    estimate, known = result.parameters[name], PARAMETERS[name]
    return {
        "name": name,
        "value": format_estimate(estimate.value, estimate.stderr),
        "unit": estimate.unit or "–",
        "state": _state(result, name),
        "meaning": known.meaning,
    }


def _state(result: FitResult, name: str) -> str:
    """What is particular about a parameter, in words."""
    estimate = result.parameters[name]
    if name in result.not_needed:
        return "not needed by the data"
    if estimate.fixed:
        return "held fixed"
    if estimate.at_bound:
        return "at its bound"
    return "not determined by the data" if np.isinf(estimate.stderr) else ""


def _angle_row(data: TwoTimeData, result: FitResult, angle: int, view: AngleView) -> dict[str, str]:
    chi2 = result.goodness.reduced_chi2_of_angles[angle]
    return {
        "phi": f"{format_number(view.phi)}°",
        "q": format_number(data.q[angle]),
        "contrast": _scaling_text(result.contrast[angle]),
        "offset": _scaling_text(result.offset[angle]),
        "rms": f"{view.rms:.3f}",
        "chi2": "–" if np.isnan(chi2) else f"{chi2:.3f}",
    }


def _scaling_text(estimate: Estimate) -> str:
    text = format_estimate(estimate.value, estimate.stderr)
    if estimate.at_bound:
        return f"{text} (at its bound)"
    return f"{text} (not determined)" if np.isinf(estimate.stderr) else text


def _correlation(result: FitResult) -> dict[str, Any] | None:
    """The correlation matrix as a table; None of one estimate."""
    correlation = result.correlation
    if len(correlation.names) < 2:
        return None
    rows = [
        (name, [_correlation_cell(value) for value in row])
        for name, row in zip(correlation.names, correlation.matrix, strict=True)
    ]
    return {"names": correlation.names, "rows": rows}


def _correlation_cell(value: float) -> dict[str, str]:
    end = NEGATIVE if value < 0 else POSITIVE
    mixed = [round(n + abs(value) * (e - n)) for n, e in zip(NEUTRAL, end, strict=True)]
    return {
        "text": f"{round(value, 2) + 0.0:.2f}".replace("-", "−"),
        "colour": ", ".join(map(str, mixed)),
        "ink": "#fff" if abs(value) > 0.6 else "#111",
    }


def _details(
    result: FitResult, config: dict[str, Any] | None, provenance: Provenance
) -> dict[str, str]:
    """What is shown on request: text by heading."""
    origin = asdict(provenance)
    details = {
        "Configuration": _as_yaml(config) if config else "",
        "Numbers of the search": _as_yaml(
            {
                **result.info.layers,
                "condition_number": format_number(result.condition_number, 3),
                "weak_directions": [
                    {**weak.to_json(), "text": direction_text(result, weak)}
                    for weak in result.weak_directions
                ],
            }
        ),
        "Versions": _as_yaml(origin.pop("versions")),
        "Data": _as_yaml(origin),
    }
    return {heading: text for heading, text in details.items() if text}


def _as_yaml(content: dict[str, Any]) -> str:
    plain = json.loads(json.dumps(content, default=str))
    return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)
