"""The report of a fit: one HTML file that holds everything it shows."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import yaml
from matplotlib.figure import Figure
from numpy.typing import NDArray

from homodyne_fit.atomic import replacing
from homodyne_fit.data.dataset import TwoTimeData
from homodyne_fit.data.provenance import Provenance
from homodyne_fit.fitting.result import Estimate, FitResult
from homodyne_fit.model.parameters import PARAMETERS
from homodyne_fit.report.figures import plot_lag_cuts, plot_rates, plot_scaling, plot_two_time
from homodyne_fit.report.numbers import format_estimate, format_number
from homodyne_fit.report.views import AngleView, angle_view
from homodyne_fit.report.words import (
    adequacy_text,
    direction_text,
    forms_text,
    other_forms,
    uncertainty_text,
    warnings,
    weighting_differences,
    weighting_text,
)

__all__ = ["render_report", "write_report"]

# Pixels a side of a displayed matrix at most, and dots per inch: by the number of angles up to
# which they hold. Many angles get smaller pictures, so that the file can still be mailed.
DETAIL = ((8, 250, 180), (16, 180, 160), (np.inf, 125, 130))
# Times at which J and the shear rate are drawn, at most.
CURVE_POINTS = 400


@dataclass(frozen=True)
class Picture:
    """An embedded figure: data URI, what it shows in words, and size in CSS pixels."""

    uri: str
    alt: str
    width: int
    height: int


@dataclass(frozen=True)
class Verdict:
    """The outcome in one line; `level` is good, caution or bad."""

    level: str
    headline: str
    text: str


def write_report(
    path: Path,
    data: TwoTimeData,
    result: FitResult,
    config: dict[str, Any] | None = None,
    provenance: Provenance | None = None,
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
    """
    text = render_report(data, result, config, provenance)
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def render_report(
    data: TwoTimeData,
    result: FitResult,
    config: dict[str, Any] | None = None,
    provenance: Provenance | None = None,
) -> str:
    """The text of the report."""
    provenance = provenance or Provenance.of(data)
    template = files("homodyne_fit").joinpath("report", "templates", "report.html")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    detail = next(detail for most, *detail in DETAIL if data.n_angles <= most)
    angles = [_angle_section(data, result, k, *detail) for k in range(data.n_angles)]
    caution_texts = warnings(result)
    return environment.from_string(template.read_text(encoding="utf-8")).render(
        result=result,
        source=data.source,
        notes=data.notes,
        title=Path(data.source).name,
        verdict=_verdict(result, caution_texts),
        facts=_facts(data, result),
        cautions=caution_texts,
        weak_directions=[direction_text(result, weak) for weak in result.weak_directions],
        weakest=result.weakest and direction_text(result, result.weakest),
        parameters=[_parameter_row(result, name) for name in result.parameters],
        forms=forms_text(result),
        other_forms=other_forms(result),
        middle=format_number(result.space.tau, 4),
        error_bars=_sentence(uncertainty_text(result)),
        rates=_rates_picture(data, result),
        scaling_picture=_scaling_picture(result) if data.n_angles > 1 else None,
        several_q=bool(np.ptp(data.q) > 0),
        layers=_layers(result),
        angles=angles,
        details=_details(result, config, provenance),
        written=datetime.fromisoformat(provenance.created).strftime("%Y-%m-%d %H:%M UTC%z"),
    )


def _verdict(result: FitResult, cautions: Sequence[str]) -> Verdict:
    message = _sentence(result.info.message)
    if not result.success:
        return Verdict("bad", "The fit did not converge. Do not use its numbers.", message)
    if result.adequacy.adequate is False:
        headline = "The fit converged, but the model does not describe the data."
        return Verdict("bad", headline, message)
    if cautions:
        return Verdict("caution", "The fit converged, with cautions.", message)
    return Verdict("good", "The fit converged.", message)


def _sentence(message: str) -> str:
    return f"{message[:1].upper()}{message[1:].removesuffix('.')}."


def _facts(data: TwoTimeData, result: FitResult) -> list[tuple[str, str]]:
    """The measurement and the fit in figures."""
    info, n = result.info, data.n_frames
    expected = data.n_angles * n * (n - 1) // 2
    missing = expected - result.n_points
    share = f" ({100 * missing / expected:.2g} % missing)" if missing else ""
    facts = [
        ("Points fitted", f"{result.n_points:,}{share}"),
        ("Angles", str(data.n_angles)),
        ("Frames", f"{n} × {format_number(data.dt)} s = {format_number(n * data.dt)} s"),
        ("Wave vector q", f"{_span(data.q)} Å⁻¹"),
    ]
    if result.model.has_flow:
        gap = result.objective.gap
        facts.append(("Gap h", f"{format_number(gap * 1e-4)} µm"))
    return [
        *facts,
        ("Noise of a point", format_number(result.noise, 3)),
        ("Error bars", uncertainty_text(result)),
        *_weights(result),
        ("½ Σ residual²", f"{format_number(info.cost_initial)} → {format_number(result.cost)}"),
        ("Contrast and offset", result.objective.scaling.mode),
        ("Time taken", f"{format_number(info.seconds, 2)} s"),
        ("Passes over the data", f"{info.passes:.1f}"),
        ("Lack of fit", _sentence(adequacy_text(result))),
    ]


def _weights(result: FitResult) -> list[tuple[str, str]]:
    """How the points were weighted, if that was asked for."""
    text, differences = weighting_text(result), weighting_differences(result)
    return [("Weights", _sentence("; ".join([text, *differences])))] if text else []


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


def _rates_picture(data: TwoTimeData, result: FitResult) -> Picture:
    step = -(-data.n_frames // CURVE_POINTS)
    times = data.times[::step]
    ends = data.times[[1, len(data.times) // 2, -1]]
    texts = []
    for rate in result.rates:
        values = zip(*rate.at(ends), ends, strict=True)
        points = (f"{format_estimate(v, e)} at {format_number(t)} s" for v, e, t in values)
        name = rate.name.capitalize()
        texts.append(f"{name} against time, in {rate.unit}: {', '.join(points)}.")
    return _picture(plot_rates(result, times), " ".join(texts), "svg")


def _scaling_picture(result: FitResult) -> Picture:
    ranges = (
        f"{kind} from {format_number(min(values), 4)} to {format_number(max(values), 4)}"
        for kind, values in (
            ("contrast", [estimate.value for estimate in result.contrast]),
            ("offset", [estimate.value for estimate in result.offset]),
        )
    )
    alt = f"Against the azimuthal angle: {', '.join(ranges)}."
    return _picture(plot_scaling(result), alt, "svg")


def _angle_section(
    data: TwoTimeData, result: FitResult, angle: int, pixels: int, dpi: int
) -> dict[str, Any]:
    """Everything the report shows of one angle."""
    view = angle_view(data, result, angle, pixels)
    phi = f"{format_number(view.phi)}°"
    return {
        "phi": phi,
        "q": format_number(data.q[angle]),
        "contrast": _scaling_text(result.contrast[angle]),
        "offset": _scaling_text(result.offset[angle]),
        "rms": f"{view.rms:.3f}",
        "block": view.block,
        "matrices": _picture(plot_two_time(view), _matrices_alt(view, phi), "png", dpi),
        "cuts": _picture(plot_lag_cuts(view), _cuts_alt(view, phi), "svg"),
    }


def _scaling_text(estimate: Estimate) -> str:
    text = format_estimate(estimate.value, estimate.stderr)
    if estimate.at_bound:
        return f"{text} (at its bound)"
    return f"{text} (not determined)" if np.isinf(estimate.stderr) else text


def _matrices_alt(view: AngleView, phi: str) -> str:
    return (
        f"Two-time matrices at φ = {phi}: data, fit, and their difference, which has a root "
        f"mean square of {view.rms:.3f} times the noise of the whole fit."
    )


def _cuts_alt(view: AngleView, phi: str) -> str:
    ends = (
        f"from {cut.fit[0]:.3f} to {cut.fit[-1]:.3f} for ages {cut.begin:.3g} to {cut.end:.3g} s"
        for cut in view.cuts
    )
    return f"c2 against lag at φ = {phi}; the fit falls {', '.join(ends)}."


def _picture(figure: Figure, alt: str, kind: str, dpi: int = 180) -> Picture:
    buffer = io.BytesIO()
    if kind == "svg":
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    else:
        figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    mime = {"svg": "image/svg+xml", "png": "image/png"}[kind]
    content = base64.b64encode(buffer.getvalue()).decode("ascii")
    width, height = (round(96 * inches) for inches in figure.get_size_inches())
    return Picture(f"data:{mime};base64,{content}", alt, width, height)


def _details(
    result: FitResult, config: dict[str, Any] | None, provenance: Provenance
) -> dict[str, str]:
    """What is shown on request: text by heading."""
    origin = asdict(provenance)
    details = {
        "Configuration": _as_yaml(config) if config else "",
        "Search": _as_yaml(
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
