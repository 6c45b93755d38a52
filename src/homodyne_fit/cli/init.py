"""Write a configuration from what a data file says."""

from __future__ import annotations

import argparse
import os
import shlex
from pathlib import Path

from homodyne_fit.atomic import replacing
from homodyne_fit.errors import InputError

TEMPLATE = """\
# Configuration of homodyne_fit, made from {name}.{fill_in}

analysis_mode: {mode}

experimental_data:
  file_path: {path}{angles}

analyzer_parameters:
{dt}
  start_frame: 1  # counted from 1, included
  end_frame: -1  # -1 is the last of the {n_frames} frames
  scattering:
{q}
  geometry:
{gap}
{angle_choice}
# Hold what is known. Three parameters of a power law are seldom determined one by one; two are:
# initial_parameters:
#   fixed_parameters: {{{fixed}}}
#   values: {{{start}}}  # starts; without them they are taken from the data

optimization:
  nlsq:
    anti_degeneracy:
      # Contrast and offset of the angles: auto lets the data decide how far they differ;
      # individual leaves each angle its own, freely; averaged has one pair for all
      per_angle_mode: auto
"""


ANGLE_CHOICE = """
# Angles to use, in degrees; without this, all{listed}:
# phi_filtering:
#   target_ranges:
#     - {{min_angle: -10, max_angle: 10}}
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("data", type=Path, metavar="DATA", help="two-time file")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="default: DATA.yaml, in this folder"
    )
    parser.add_argument("--q", type=float, help="wave vector, Å⁻¹, where the file has several")
    parser.add_argument("--dt", type=float, help="frame time, s, where the file has none")
    parser.add_argument("--gap", type=float, help="gap between stator and rotor, Å")
    parser.add_argument("--static", action="store_true", help="no flow")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing file")


def run(args: argparse.Namespace) -> int:
    """Write the configuration and say what is left to fill in."""
    from homodyne_fit.config import parse_config

    output = args.output or Path(args.data.with_suffix(".yaml").name)
    if output.exists() and not args.overwrite:
        raise InputError(f"{output}: exists; give another -o, or --overwrite")
    if not output.parent.is_dir():
        raise InputError(f"{output}: there is no folder {output.parent}")
    text, missing = configuration(
        args.data, output.parent, q=args.q, dt=args.dt, gap=args.gap, static=args.static
    )
    parse_config(text, output)
    with replacing(output) as temporary:
        temporary.write_text(text, encoding="utf-8")
    print(f"wrote {output}")
    if missing:
        print(f"fill in: {', '.join(missing)}")
    print(f"check: homodyne_fit check {shlex.quote(str(output))}")
    print(f"then: homodyne_fit --config {shlex.quote(str(output))}")
    return 0


def configuration(
    data: Path,
    folder: Path,
    *,
    q: float | None = None,
    dt: float | None = None,
    gap: float | None = None,
    static: bool = False,
) -> tuple[str, list[str]]:
    """Text of a configuration for a data file, and the keys that are left to fill in.

    Parameters
    ----------
    data : Path
    folder : Path
        Where the configuration will be; the path of the data is written relative to it.
    q, dt, gap : float, optional
        What is known besides, Å⁻¹, s, Å.
    static : bool
        Choose the model without flow, which is also the choice where there is one angle only.
    """
    from homodyne_fit.loaders import open_two_time
    from homodyne_fit.loaders.selection import SAME_DT, nearest_q, q_groups

    file = open_two_time(data)
    missing = []

    def line(indent: int, key: str, value: float | None, comment: str, path: str) -> str:
        if value is None:
            missing.append(path)
            comment = f"FILL IN: {comment}"
        return f"{' ' * indent}{key}: {_yaml_number(value)}  # {comment}"

    q_comment, phi, n_angles = "Å⁻¹", file.phi, file.n_matrices
    if file.q is not None:
        groups = q_groups(file.q)
        if q is None and groups:
            q = max((len(group), file.q[group].mean()) for group in groups)[1]
        chosen = nearest_q(file.q, q, str(data))
        others = [f"{file.q[g].mean():.6g}" for g in groups if g[0] != chosen[0]]
        if others:
            q_comment += f"; the file also has {', '.join(others)}"
        q = float(file.q[chosen].mean())
        phi = None if phi is None else phi[chosen]
        n_angles = len(chosen)
    note = _one_line(file.dt_note)
    if dt is None:
        dt = file.dt
    elif file.dt is not None and not abs(dt - file.dt) <= SAME_DT * file.dt:
        raise InputError(
            f"{data}: --dt is {dt:g} s, but the file says {file.dt:g} s ({note}); leave --dt out"
        )
    angles = ""
    if phi is None and n_angles > 1:
        missing.append("experimental_data.phi_angles")
        angles = f"\n  phi_angles: null  # FILL IN: a list of {n_angles} angles, degrees"
    listed = "" if phi is None else f" of {', '.join(f'{p:g}' for p in phi)}"
    mode = "laminar_flow  # or static: no flow"
    if static or n_angles == 1:
        why = "no flow" if static else "no flow, as there is one angle only"
        mode = f"static  # {why}; or laminar_flow"
    text = TEMPLATE.format(
        name=_yaml_string(data.name),
        mode=mode,
        path=_yaml_string(_relative(data, folder)),
        angles=angles,
        dt=line(
            2,
            "dt",
            dt,
            "s, time between two frames" + (f" ({note})" if note else ""),
            "analyzer_parameters.dt",
        ),
        n_frames=file.n_frames,
        q=line(4, "wavevector_q", q, q_comment, "analyzer_parameters.scattering.wavevector_q"),
        gap=(
            f"    stator_rotor_gap: {_yaml_number(gap)}  # Å; not used without flow"
            if mode.startswith("static")
            else line(
                4,
                "stator_rotor_gap",
                gap,
                "Å, width of the sheared gap (1 mm = 1e7 Å)",
                "analyzer_parameters.geometry.stator_rotor_gap",
            )
        ),
        angle_choice=ANGLE_CHOICE.format(listed=listed) if n_angles > 1 else "",
        start="D0: 1000" if mode.startswith("static") else "D0: 1000, gamma_dot_t0: 0.001",
        fixed=(
            "D_offset: 0" if mode.startswith("static") else "D_offset: 0, gamma_dot_t_offset: 0"
        ),
        fill_in="\n# Fill in what the file does not say: null below, marked FILL IN."
        if missing
        else "",
    )
    return text, missing


def _relative(data: Path, folder: Path) -> str:
    """Path of the data from the configuration's folder, absolute if that leads far up.

    Links are followed first: behind one, ".." is another folder.
    """
    relative = os.path.relpath(data.resolve(), folder.resolve())
    return str(data.resolve()) if Path(relative).parts.count("..") > 2 else relative


def _yaml_number(value: float | None) -> str:
    """A number that YAML takes for one: with a point before an exponent."""
    text = "null" if value is None else f"{value:.10g}"
    return text if "." in text or "null" in text else text.replace("e", ".0e")


def _yaml_string(text: str) -> str:
    """A YAML scalar in quotes, on one line."""
    import yaml

    # Between double quotes what is not printable is escaped.
    quote = "'" if text.isprintable() else '"'
    return yaml.safe_dump(text, default_style=quote, allow_unicode=True, width=2**30).strip()


def _one_line(text: str) -> str:
    """The text without what would end a comment."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
