"""Write a configuration from what a data file says."""

from __future__ import annotations

import argparse
import math
import shlex
from pathlib import Path

from homodyne_fit.atomic import replacing
from homodyne_fit.config import parse_config
from homodyne_fit.config.template import OPTIONS, configuration
from homodyne_fit.data.formats import open_two_time
from homodyne_fit.data.wave_vectors import SAME_Q, q_groups
from homodyne_fit.errors import InputError


def run(args: argparse.Namespace) -> int:
    """Write the configuration and say what is left to fill in."""
    output = args.output or Path(f"{args.data.stem}.yaml")
    if str(output) == "-":
        raise InputError("init writes a file; give -o a name such as fit.yaml")
    if output.exists():
        _require_replaceable(output, overwrite=args.overwrite)
    if not output.parent.is_dir():
        raise InputError(f"{output}: there is no folder {output.parent}")
    text, missing = configuration(
        args.data,
        output.parent,
        q=args.q,
        dt=args.dt,
        phi=args.phi,
        gap=args.gap,
        static=args.static,
        units_confirmed=args.units_confirmed,
    )
    config = parse_config(text, output)
    with replacing(output) as temporary:
        temporary.write_text(text, encoding="utf-8")
    print(f"wrote {output}")
    _say_which_q(args.data, args.q, config.root.analyzer_parameters.scattering.wavevector_q)
    if not config.root.has_flow and not args.static:
        print(
            "model: static, without flow, as there is one angle only; for a sheared sample set "
            "analysis_mode: laminar_flow, and the gap"
        )
    if missing:
        options = ", ".join(OPTIONS[key] for key in missing)
        print(f"not in the file: {', '.join(missing)}")
        print(f"fill them in in {output}, or run init again with {options} and --overwrite")
    print(f"check: homodyne_fit check {shlex.quote(str(output))}")
    print(f"then: homodyne_fit --config {shlex.quote(str(output))}")
    return 0


def _say_which_q(data: Path, wanted: float | None, taken: float | None) -> None:
    """Print which wave vector of the file was taken, if it is not the only one or not the wanted.

    wanted, taken : Å⁻¹
    """
    file = open_two_time(data)
    if file.q is None or taken is None:
        return
    groups = q_groups(file.q)
    listed = ", ".join(f"{file.q[group].mean():.6g}" for group in groups)
    if wanted is None and len(groups) > 1:
        print(
            f"q: the file has {listed} Å⁻¹, and the largest one with most angles was chosen; "
            "--q chooses another"
        )
    elif wanted is not None and not math.isclose(wanted, taken, rel_tol=SAME_Q):
        print(
            f"q: {wanted:.6g} Å⁻¹ is not in the file; the nearest, {taken:.6g} Å⁻¹, was taken "
            f"(the file has {listed})"
        )


def _require_replaceable(output: Path, *, overwrite: bool) -> None:
    """Refuse to replace a file without --overwrite, or a file that is no text."""
    if not overwrite:
        raise InputError(f"{output}: exists; give another -o, or --overwrite")
    if output.is_file():
        try:
            output.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise InputError(
                f"{output}: is no configuration, so it is not replaced; give another -o"
            ) from error
