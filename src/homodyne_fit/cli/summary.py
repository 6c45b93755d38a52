"""The summary of a fit on the terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from homodyne_fit.results import Estimate, FitResult

__all__ = ["error_text", "print_summary"]


def error_text(estimate: Estimate) -> str:
    """The standard error, or in words why there is none."""
    if estimate.fixed:
        return "fixed"
    if estimate.at_bound:
        return "at its bound"
    if estimate.stderr == float("inf"):
        return "not determined"
    return f"± {estimate.stderr:.2g}"


def print_summary(console: Console, result: FitResult) -> None:
    """Print verdict, parameters, rates at mid-measurement, and the range of the scaling."""
    info = result.info
    verdict = "[green]converged[/]" if info.success else "[red]not converged[/]"
    console.print(
        f"{verdict}: {info.message}; {info.passes:.1f} passes over {result.n_points:,} points "
        f"in {info.seconds:.2f} s",
        highlight=False,
    )
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title, justify in (("parameter", "left"), ("value", "right"), ("error", "left")):
        table.add_column(title, justify=justify)
    table.add_column("unit")
    for name, estimate in result.parameters.items():
        table.add_row(name, f"{estimate.value:.6g}", error_text(estimate), estimate.unit)
    middle = result.space.tau
    j, j_error = result.J(middle)
    table.add_row(f"J({middle:.4g} s)", f"{j[0]:.6g}", f"± {j_error[0]:.2g}", "Å²/s")
    if result.model.has_flow:
        rate, rate_error = result.gamma_dot(middle)
        table.add_row(
            f"shear rate({middle:.4g} s)", f"{rate[0]:.6g}", f"± {rate_error[0]:.2g}", "1/s"
        )
    console.print(table)
    for name, values in (("contrast", result.contrast), ("offset", result.offset)):
        low, high = min(e.value for e in values), max(e.value for e in values)
        console.print(f"{name} {low:.4f} to {high:.4f} over the angles", highlight=False)
    console.print(f"noise {result.noise:.4g}", highlight=False)
