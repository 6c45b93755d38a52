"""The summary of a fit on the terminal."""

from __future__ import annotations

import math

from rich.console import Console
from rich.table import Table

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
    middle = result.space.tau
    rates = [(f"J({middle:.4g} s)", result.J(middle), "Å²/s")]
    if result.model.has_flow:
        rates.append((f"shear rate({middle:.4g} s)", result.gamma_dot(middle), "1/s"))
    for name, ((value,), (error,)), unit in rates:
        table.add_row(name, f"{value:.6g}", _plus_minus(error) if error else "not free", unit)
    console.print(table)
    several = len(result.contrast) > 1
    for name, values in (("contrast", result.contrast), ("offset", result.offset)):
        low, high = min(e.value for e in values), max(e.value for e in values)
        reach = f" to {high:.4f} over the angles" if several else ""
        console.print(f"{name} {low:.4f}{reach}")
    console.print(f"noise {result.noise:.4g}")
    if cautions := _cautions(result):
        console.print(f"note: {'; '.join(cautions)}")


def _cautions(result: FitResult) -> list[str]:
    """What a reader of single parameters should know."""
    at_bound = [name for name, estimate in result.parameters.items() if estimate.at_bound]
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
    if cautions:
        rates = "J and the shear rate" if result.model.has_flow else "J"
        cautions.append(f"rely on {rates} at mid-measurement, and on the curves in the report")
    return cautions


def _plus_minus(error: float) -> str:
    if math.isnan(error):
        return "at its floor"
    return "not determined" if math.isinf(error) else f"± {error:.2g}"
