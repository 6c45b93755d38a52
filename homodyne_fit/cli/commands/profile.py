"""Draw the profile of one parameter of a fit: picture, table and interval."""

from __future__ import annotations

import argparse
import csv
import io
from pathlib import Path

import numpy as np
import yaml

from homodyne_fit.analysis import load_result
from homodyne_fit.atomic import replacing
from homodyne_fit.cli.console import print_json, table
from homodyne_fit.cli.reporter import reporter_of
from homodyne_fit.config.configuration import parse_config
from homodyne_fit.fitting.profile import Profile, profile
from homodyne_fit.fitting.result import finite_or_none
from homodyne_fit.progress import Step
from homodyne_fit.report.figure_files import require_format
from homodyne_fit.report.figures import plot_profile
from homodyne_fit.report.numbers import format_number, with_unit
from homodyne_fit.report.style import plain_style
from homodyne_fit.results.folder import save_figure

COLUMNS = ("value", "delta_chi2", "cost", "converged")


def run(args: argparse.Namespace) -> int:
    """Fit along a parameter; return 0 if all of these fits converged, else 2."""
    result = load_result(args.results)
    folder = args.results if args.results.is_dir() else args.results.parent
    picture: Path = args.output or folder / f"profile_{args.parameter}.png"
    require_format(picture)
    settings = parse_config(yaml.safe_dump(result.config), folder / "result.h5").settings()
    with reporter_of(args) as reporter, reporter.progress() as show:
        number = len(args.values) if args.values else args.points
        show(Step(f"fitting at {number} values of {args.parameter}"))
        found = profile(
            result.data,
            settings,
            result,
            args.parameter,
            args.values,
            n=args.points,
            span=args.span,
        )
    low, high = found.interval(args.level)
    with plain_style():
        save_figure(plot_profile(found, args.level), picture)
    numbers = _write_table(picture.with_suffix(".csv"), found)
    if args.json:
        print_json(_to_json(found, args.level))
    else:
        rows = [
            (format_number(value), format_number(rise, 3), "" if converged else "NOT CONVERGED")
            for value, rise, converged in zip(
                found.values, found.delta_chi2, found.success, strict=True
            )
        ]
        unit = f" ({found.unit})" if found.unit else ""
        print(table([(f"{found.name}{unit}", "Δχ²", ""), *rows]))
        print(_interval_text(found, low, high, args.level))
        print(f"wrote {picture} and {numbers}")
    return 0 if np.all(found.success) else 2


def _interval_text(found: Profile, low: float | None, high: float | None, level: float) -> str:
    """Such as ``68 % interval of D0: 7900 to 8200 Å²/s, best 8050 Å²/s``."""
    best = with_unit(format_number(found.best), found.unit)
    ends = [
        f"open {side} the values looked at" if end is None else format_number(end)
        for side, end in (("below", low), ("above", high))
    ]
    interval = with_unit(" to ".join(ends), found.unit if high is not None else "")
    text = f"{100 * level:.3g} % interval of {found.name}: {interval}, best {best}"
    if np.any(found.delta_chi2[found.success] < 0):
        text += "; χ² falls below that of the fit, which was not at its lowest minimum"
    return text


def _write_table(path: Path, found: Profile) -> Path:
    """Write values, rises of χ², costs and the other parameters as CSV."""
    others = [name for name in found.parameters if name != found.name]
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([*COLUMNS, *others])
    columns = [found.values, found.delta_chi2, found.cost, found.success]
    columns += [found.parameters[name] for name in others]
    for row in zip(*(column.tolist() for column in columns), strict=True):
        writer.writerow([str(x).lower() if isinstance(x, bool) else x for x in row])
    with replacing(path) as temporary:
        temporary.write_text(stream.getvalue(), encoding="utf-8")
    return path


def _to_json(found: Profile, level: float) -> dict:
    low, high = found.interval(level)
    return {
        "parameter": found.name,
        "unit": found.unit,
        "best": found.best,
        "level": level,
        "interval": {"low": low, "high": high},
        "values": found.values.tolist(),
        "delta_chi2": [finite_or_none(rise) for rise in found.delta_chi2.tolist()],
        "success": found.success.tolist(),
    }
