"""Check a configuration, and show what a fit would do, without running it."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from homodyne_fit.cli.wording import counted, reasons, table
from homodyne_fit.errors import InputError

if TYPE_CHECKING:
    from homodyne_fit.plan import ParameterPlan, Plan

LABEL = 12  # characters


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("file", type=Path, nargs="?", metavar="CONFIG", help="YAML configuration")
    parser.add_argument(
        "--output-dir", type=Path, metavar="DIR", help="where results would go, as for the fit"
    )
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")
    parser.add_argument(
        "--schema", action="store_true", help="print the JSON Schema of configurations, for editors"
    )


def run(args: argparse.Namespace) -> int:
    """Print what would be done, or every mistake; return 0 if there is none, else 1."""
    if args.schema:
        from homodyne_fit.config.json_schema import shipped_schema

        print(shipped_schema(), end="")
        return 0
    if args.file is None:
        raise InputError("check needs a configuration: homodyne_fit check CONFIG")
    try:
        plan = _plan(args.file, args.output_dir)
    except InputError as error:
        if not args.json:
            raise
        print(_as_json({"ok": False, "errors": str(error).splitlines()}))
        return 1
    if args.json:
        ignored = [each._asdict() for each in plan.config.without_effect]
        described = {"ok": True, "errors": [], **plan.to_json(), "without_effect": ignored}
        print(_as_json(described))
    else:
        print("\n".join(_lines(plan)))
    return 0


def _plan(file: Path, folder: Path | None) -> Plan:
    from homodyne_fit.cli.fit import output_folder
    from homodyne_fit.config.examination import examine
    from homodyne_fit.plan import plan_of

    config, selection = examine(file)
    return plan_of(config, selection, output_folder(config, folder))


def _as_json(described: dict) -> str:
    return json.dumps(described, indent=2, ensure_ascii=False, allow_nan=False)


def _lines(plan: Plan) -> Iterator[str]:

    config, chosen = plan.config, plan.selection
    yield f"{config.path}: no mistakes found"
    yield _entry("model", _model(plan))
    yield _entry("data", f"{chosen.file.path} ({chosen.file.format})")
    yield _entry("q", f"{format_number(float(chosen.q.mean()))} Å⁻¹")
    angles = ", ".join(f"{phi:g}" for phi in chosen.phi)
    yield _entry("angles", f"{len(chosen.phi)} of {chosen.n_angles_at_q}: {angles}°")
    yield _entry("frames", _frames(plan))
    yield _entry("points", f"{chosen.n_points:,} with t1 < t2, less what is missing in the file")
    for name, what in plan.layers.items():
        yield _entry("layer", f"{name}: {what}")
    yield _entry("search", plan.search)
    yield _entry("parameters", "")
    yield table([("", "start", "lower", "upper", "unit"), *map(_row, plan.parameters)])
    estimate = plan.estimate
    yield _entry("memory", f"about {estimate.memory / 1e9:.2g} GB")
    yield _entry("time", " to ".join(_duration(seconds) for seconds in estimate.seconds))
    yield _entry("", f"({estimate.basis})")
    yield _entry("output", _output(plan))
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
    form = "" if root.model.shear == "documented" else f", shear term as {root.model.shear} has it"
    return f"laminar_flow: diffusion and shear, gap {millimetres}{form}"


def _frames(plan: Plan) -> str:

    chosen = plan.selection
    text = f"{chosen.frames.start + 1} to {chosen.frames.stop} of {chosen.file.n_frames}"
    if len(chosen.masked):
        text += f", {len(chosen.masked)} masked"
    lasting = format_number((chosen.n_frames - 1) * chosen.dt)
    return f"{text}, {format_number(chosen.dt)} s apart, {lasting} s in all"


def _row(parameter: ParameterPlan) -> tuple[str, ...]:

    start = "from the data" if parameter.start is None else format_number(parameter.start)
    if parameter.role == "eliminated":
        start = "none needed"
    if parameter.lower is None or parameter.upper is None:
        return (f"  {parameter.name}", start, "held", "", parameter.unit)
    bounds = (format_number(parameter.lower), format_number(parameter.upper))
    return (f"  {parameter.name}", start, *bounds, parameter.unit)


def _duration(seconds: float) -> str:
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def _output(plan: Plan) -> str:
    from homodyne_fit.cli.fit import OUTPUTS

    there = any((plan.output / name).exists() for name in OUTPUTS)
    earlier = ": holds results already, so that the fit needs --overwrite" if there else ""
    return f"{plan.output}/{earlier}"


def _without_effect(plan: Plan) -> Iterator[str]:
    ignored = plan.config.without_effect
    if ignored:
        yield f"{counted(len(ignored), 'key')} without effect"
    for line in reasons(ignored):
        yield f"  {line}"
