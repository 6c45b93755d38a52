"""The summary of a fit on the terminal."""

from __future__ import annotations

import math

from rich.console import Console
from rich.table import Table

from homodyne_fit.identifiability import hardly_determined
from homodyne_fit.results import Estimate, FitResult

__all__ = ["error_text", "print_summary"]


def error_text(estimate: Estimate) -> str:
    """The standard error, or in words why there is none."""
    if estimate.fixed:
        return "fixed"
    if estimate.at_bound:
        return "at its bound"
    return _plus_minus(estimate.stderr)


def print_summary(console: Console, result: FitResult) -> None:
    """Print verdict, parameters, rates at mid-measurement, range of the scaling, and warnings."""
    info = result.info
    style, verdict = ("green", "converged") if info.success else ("red", "NOT CONVERGED")
    console.print(verdict, style=style, end="")
    console.print(
        f": {info.message}; {info.passes:.1f} passes over {result.n_points:,} points "
        f"in {info.seconds:.2f} s",
        markup=False,
    )
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("parameter")
    table.add_column("value", justify="right")
    table.add_column("error")
    table.add_column("unit")
    for name, estimate in result.parameters.items():
        table.add_row(name, f"{estimate.value:.6g}", error_text(estimate), estimate.unit)
    rates = _rates(result)
    for name, (value, error, unit) in rates.items():
        when = f"{name}({result.space.tau:.4g} s)"
        table.add_row(when, f"{value:.6g}", _plus_minus(error) if error else "not free", unit)
    console.print(table)
    several = len(result.contrast) > 1
    for name, values in (("contrast", result.contrast), ("offset", result.offset)):
        low, high = min(e.value for e in values), max(e.value for e in values)
        reach = f" to {high:.4f} over the angles" if several else ""
        console.print(f"{name} {low:.4f}{reach}")
    for layer in ("reparametrization", "regularization", "gradient_monitoring"):
        effect = info.layers.get(layer, {}).get("effect", "none")
        if not effect.startswith("none"):
            console.print(f"{layer.replace('_', ' ')}: {effect}", markup=False, highlight=False)
    console.print(f"noise {result.noise:.4g}")
    determined = [name for name, (_, error, _) in rates.items() if 0 < error < math.inf]
    for text in result.warnings:
        console.print(f"warning: {text}", markup=False)
    for text in _notes(result, determined):
        console.print(text, markup=False)


def _rates(result: FitResult) -> dict[str, tuple[float, float, str]]:
    """Value, standard error and unit of the rates at mid-measurement, by name."""
    rates = {"J": (result.J(result.space.tau), "Å²/s")}
    if result.model.has_flow:
        rates["shear rate"] = (result.gamma_dot(result.space.tau), "1/s")
    return {
        name: (float(value[0]), float(error[0]), unit)
        for name, ((value, error), unit) in rates.items()
    }


def _notes(result: FitResult, determined: list[str]) -> list[str]:
    """How parameters can move together; `determined` are the rates that are."""
    if not result.weak_directions:
        return [f"least determined: {result.weakest['text']}"] if result.weakest else []
    note = f"note: hardly determined one by one: {', '.join(hardly_determined(result))}"
    if determined:
        note += f"; rely on {' and '.join(determined)} at mid-measurement, and on the curves in the"
        note += " report"
    return [note, *(f"  {weak['text']}" for weak in result.weak_directions)]


def _plus_minus(error: float) -> str:
    if math.isnan(error):
        return "at its floor"
    return "not determined" if math.isinf(error) else f"± {error:.2g}"
