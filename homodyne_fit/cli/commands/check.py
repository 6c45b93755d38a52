"""Check a configuration, and show what a fit would do, without running it."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from homodyne_fit.cli.console import print_json, reasons, table
from homodyne_fit.cli.overrides import overrides_of
from homodyne_fit.config.configuration import examine
from homodyne_fit.config.overrides import Override
from homodyne_fit.config.plan import ParameterPlan, Plan, plan_of
from homodyne_fit.config.schema import json_schema
from homodyne_fit.errors import InputError, counted
from homodyne_fit.report.numbers import format_number
from homodyne_fit.results.folder import require_room
from homodyne_fit.results.names import OUTPUTS

__all__ = ["plan_lines", "show"]

# Width of a label, characters.
LABEL = 12

BOUNDS_FROM_MEASUREMENT = (
    "(measurement: what q, dt, the duration and the gap allow to resolve, a decade to spare)"
)


def run(args: argparse.Namespace) -> int:
    """Print what a fit would do, or the mistakes; return 0 if there are none, else 1."""
    if args.schema:
        print(json.dumps(json_schema(), indent=2, ensure_ascii=False))
        return 0
    if args.file is None:
        raise InputError("check needs a configuration: homodyne_fit check CONFIG")
    return show(args.file, args.output_dir, overrides_of(args), as_json=args.json)


def show(
    file: Path,
    folder: Path | None,
    overrides: Sequence[Override],
    *,
    as_json: bool = False,
    quiet: bool = False,
    overwrite: bool | None = None,
) -> int:
    """Print what a fit would do, or the mistakes; return 0 if there are none, else 1.

    Parameters
    ----------
    file : Path
        Configuration.
    folder : Path or None
        Folder of the results; that of the configuration when None.
    overrides : sequence of (str, value)
        Keys that are set, as in `homodyne_fit.config.parse_config`.
    as_json, quiet : bool
        Print JSON; print nothing but mistakes.
    overwrite : bool, optional
        If given, it is a mistake if results cannot be written. With False, earlier results are such
        a mistake.
    """
    try:
        plan = _plan(file, folder, overrides, overwrite=overwrite)
    except InputError as error:
        if not as_json:
            raise
        print_json({"ok": False, "errors": list(map(str, error.problems))})
        return 1
    if as_json:
        ignored = [each._asdict() for each in plan.config.without_effect]
        described = {"ok": True, "errors": [], **plan.to_json(), "without_effect": ignored}
        print_json(described)
    elif not quiet:
        print("\n".join(plan_lines(plan, overwrite=bool(overwrite))))
    return 0


def _plan(
    file: Path, folder: Path | None, overrides: Sequence[Override], *, overwrite: bool | None
) -> Plan:
    config, selection = examine(file, overrides)
    output = folder or config.output_folder
    if overwrite is not None:
        require_room(output, overwrite=overwrite)
    return plan_of(config, selection, output)


def plan_lines(plan: Plan, *, overwrite: bool = False) -> Iterator[str]:
    """What a fit will do, and the keys without effect, line by line."""
    config, chosen = plan.config, plan.selection
    yield f"{config.path}: no mistakes found (no matrix was read; 'inspect' assesses them)"
    yield _entry("model", _model(plan))
    yield _entry("data", f"{chosen.file.path} ({chosen.file.format})")
    yield _entry("q", f"{format_number(float(chosen.q.mean()))} Å⁻¹")
    angles = ", ".join(f"{phi:g}" for phi in chosen.phi)
    yield _entry("angles", f"{len(chosen.phi)} of {chosen.n_angles_at_q}: {angles}°")
    yield _entry("frames", _frames(plan))
    yield _entry("points", f"{chosen.n_points:,} with t1 < t2, without those missing in the file")
    for name, what in plan.layers.items():
        yield _entry("layer", f"{name}: {what}")
    yield _entry("search", plan.search)
    if config.root.optimization.nlsq.precision != "double":
        yield _entry("precision", f"{config.root.optimization.nlsq.precision} for every point")
    yield _entry("parameters", "")
    heads = ("", "start", "lower", "upper", "unit", "bounds")
    yield table([heads, *map(_row, plan.parameters)])
    if any(parameter.bounds_from == "measurement" for parameter in plan.parameters):
        yield _entry("", BOUNDS_FROM_MEASUREMENT)
    effort = plan.effort
    yield _entry("memory", f"about {effort.memory / 1e9:.2g} GB")
    yield _entry("time", _between(*map(_duration, effort.seconds)))
    yield _entry("", f"({effort.basis})")
    yield _entry("output", _output(plan, overwrite))
    for note in chosen.notes:
        yield _entry("note", note)
    yield from _without_effect(plan)


def _entry(label: str, text: str) -> str:
    return f"{label:{LABEL}}{text}".rstrip()


def _model(plan: Plan) -> str:
    root = plan.config.root
    if not root.has_flow:
        return "static: diffusion alone"
    gap = root.analyzer_parameters.geometry.stator_rotor_gap
    assert gap is not None
    millimetres = f"{format_number(gap)} Å = {gap / 1e7:g} mm"
    form = "" if root.model.shear == "documented" else f", shear term of {root.model.shear}"
    return f"laminar_flow: diffusion and shear, gap {millimetres}{form}"


def _frames(plan: Plan) -> str:
    chosen = plan.selection
    text = f"{chosen.frames.start + 1} to {chosen.frames.stop} of {chosen.file.n_frames}"
    if len(chosen.masked):
        text += f", {len(chosen.masked)} masked"
    duration = format_number((chosen.n_frames - 1) * chosen.dt)
    return f"{text}, {format_number(chosen.dt)} s apart, {duration} s in all"


def _row(parameter: ParameterPlan) -> tuple[str, ...]:
    start = "from the data" if parameter.start is None else format_number(parameter.start)
    if parameter.role == "eliminated":
        start = "none needed"
    elif parameter.role == "optional":
        start = "0 unless needed" if parameter.start == 0 else start
    if parameter.lower is None or parameter.upper is None:
        return (f"  {parameter.name}", start, "held", "", parameter.unit, "")
    bounds = (format_number(parameter.lower), format_number(parameter.upper))
    return (f"  {parameter.name}", start, *bounds, parameter.unit, parameter.bounds_from or "")


def _duration(seconds: float) -> str:
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def _between(shortest: str, longest: str) -> str:
    return f"about {longest}" if shortest == longest else f"{shortest} to {longest}"


def _output(plan: Plan, overwrite: bool) -> str:
    exists = any((plan.output / name).exists() for name in OUTPUTS)
    consequence = "which are replaced" if overwrite else "so that the fit needs --overwrite"
    return f"{plan.output}/" + (f": holds results already, {consequence}" if exists else "")


def _without_effect(plan: Plan) -> Iterator[str]:
    ignored = plan.config.without_effect
    if ignored:
        yield f"{counted(len(ignored), 'key')} without effect"
    for line in reasons(ignored):
        yield f"  {line}"
