"""The summary of a fit on the terminal."""

from __future__ import annotations

import math

from rich.console import Console
from rich.table import Table

from homodyne_fit.cli.wording import counted
from homodyne_fit.results import Estimate, FitResult

__all__ = ["error_text", "print_summary"]

# Share of a parameter in a weakly determined direction from which on it is named.
NAMED_SHARE = 0.1


def error_text(estimate: Estimate) -> str:
    """The standard error, or in words why there is none."""
    if estimate.fixed:
        return "fixed"
    if estimate.at_bound:
        return "at its bound"
    return _plus_minus(estimate.stderr)


def print_summary(console: Console, result: FitResult) -> None:
    """Print verdict, parameters, rates at mid-measurement, and the range of the scaling."""
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
    console.print(f"noise {result.noise:.4g}")
    determined = [name for name, (_, error, _) in rates.items() if 0 < error < math.inf]
    if cautions := _cautions(result, determined):
        console.print(f"note: {'; '.join(cautions)}")


def _rates(result: FitResult) -> dict[str, tuple[float, float, str]]:
    """Value, standard error and unit of the rates at mid-measurement, by name."""
    rates = {"J": (result.J(result.space.tau), "Å²/s")}
    if result.model.has_flow:
        rates["shear rate"] = (result.gamma_dot(result.space.tau), "1/s")
    return {
        name: (float(value[0]), float(error[0]), unit)
        for name, ((value, error), unit) in rates.items()
    }


def _cautions(result: FitResult, determined: list[str]) -> list[str]:
    """What a reader of single parameters should know; `determined` are the rates that are."""
    at_bound = [name for name, estimate in result.parameters.items() if estimate.at_bound]
    for name, values in (("contrast", result.contrast), ("offset", result.offset)):
        if count := sum(estimate.at_bound for estimate in values):
            at_bound.append(f"{name} at {count} of {counted(len(values), 'angle')}")
    weak = [
        name
        for name in result.parameters
        if any(
            abs(direction["direction"].get(name, 0.0)) >= NAMED_SHARE
            for direction in result.weak_directions
        )
    ]
    cautions = []
    if at_bound:
        cautions.append(f"at a bound: {', '.join(at_bound)}")
    if weak:
        cautions.append(f"hardly determined one by one: {', '.join(weak)}")
    if cautions and determined:
        cautions.append(
            f"rely on {' and '.join(determined)} at mid-measurement, and on the curves in the "
            "report"
        )
    return cautions


def _plus_minus(error: float) -> str:
    if math.isnan(error):
        return "at its floor"
    return "not determined" if math.isinf(error) else f"± {error:.2g}"
