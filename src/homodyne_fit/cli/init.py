"""Write a configuration from what a data file says."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from homodyne_fit.atomic import replacing
from homodyne_fit.errors import InputError

TEMPLATE = """\
# Configuration of homodyne_fit, made from {name}.
# What the file does not say is null below, and marked FILL IN.

analysis_mode: {mode}  # laminar_flow, or static (no flow)

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

# Angles to use, in degrees; all of {phi} if this is left out.
# phi_filtering:
#   target_ranges:
#     - {{min_angle: -10, max_angle: 10}}

# Starts are taken from the data; to give some, and to hold others:
# initial_parameters:
#   values: {{{start}}}
#   fixed_parameters: {{{fixed}}}

optimization:
  nlsq:
    anti_degeneracy:
      per_angle_mode: individual  # contrast and offset of each angle; or averaged: one for all
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("data", type=Path, metavar="DATA", help="two-time file")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="default: DATA.yaml")
    parser.add_argument("--q", type=float, help="wave vector, Å⁻¹, where the file has several")
    parser.add_argument("--dt", type=float, help="frame time, s, where the file has none")
    parser.add_argument("--gap", type=float, help="gap between stator and rotor, Å")
    parser.add_argument("--static", action="store_true", help="no flow")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing file")


def run(args: argparse.Namespace) -> int:
    """Write the configuration and say what is left to fill in."""
    output = args.output or args.data.with_suffix(".yaml")
    if output.exists() and not args.overwrite:
        raise InputError(f"{output}: exists; give another -o, or --overwrite")
    if not output.parent.is_dir():
        raise InputError(f"{output.parent}: there is no such folder")
    text, missing = configuration(
        args.data, output.parent, q=args.q, dt=args.dt, gap=args.gap, static=args.static
    )
    with replacing(output) as temporary:
        temporary.write_text(text, encoding="utf-8")
    print(f"wrote {output}")
    if missing:
        print(f"fill in: {', '.join(missing)}")
    print(f"then: homodyne_fit --config {output}")
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
    from homodyne_fit.loaders.selection import nearest_q, q_groups

    file = open_two_time(data)
    missing = []

    def line(indent: int, key: str, value: float | None, comment: str, path: str) -> str:
        if value is None:
            missing.append(path)
            comment = f"FILL IN: {comment}"
        shown = "null" if value is None else f"{value:.10g}"
        return f"{' ' * indent}{key}: {shown}  # {comment}"

    q_comment = "Å⁻¹"
    phi = file.phi
    if file.q is not None:
        if q is None:
            chosen = max(q_groups(file.q), key=lambda group: (len(group), file.q[group[0]]))
            others = [f"{file.q[g[0]]:g}" for g in q_groups(file.q) if g[0] != chosen[0]]
            if others:
                q_comment += f"; the file also has {', '.join(others)}"
        else:
            chosen = nearest_q(file.q, q, str(data))
        q = float(file.q[chosen[0]])
        phi = None if phi is None else phi[chosen]
    n_angles = file.n_matrices if phi is None else len(phi)
    static = static or n_angles == 1
    angles = ""
    if phi is None and n_angles > 1:
        missing.append("experimental_data.phi_angles")
        angles = f"\n  phi_angles: null  # FILL IN: a list of {n_angles} angles, degrees"
    dt_comment = "s, between frames" + (f"; {file.dt_note}" if file.dt_note else "")
    text = TEMPLATE.format(
        name=data.name,
        mode="static" if static else "laminar_flow",
        path=_yaml_string(_relative(data, folder)),
        angles=angles,
        dt=line(2, "dt", file.dt if dt is None else dt, dt_comment, "analyzer_parameters.dt"),
        n_frames=file.n_frames,
        q=line(4, "wavevector_q", q, q_comment, "analyzer_parameters.scattering.wavevector_q"),
        gap=(
            "    stator_rotor_gap: null  # Å; not used without flow"
            if static
            else line(
                4,
                "stator_rotor_gap",
                gap,
                "width of the sheared gap, Å (1 mm = 1e7 Å)",
                "analyzer_parameters.geometry.stator_rotor_gap",
            )
        ),
        phi="those in the file" if phi is None else ", ".join(f"{p:g}" for p in phi),
        start="D0: 1000" if static else "D0: 1000, gamma_dot_t0: 0.001",
        fixed="D_offset: 0" if static else "D_offset: 0, gamma_dot_t_offset: 0",
    )
    return text, missing


def _relative(data: Path, folder: Path) -> str:
    """Path of the data from the configuration's folder, absolute if that leads far up."""
    relative = os.path.relpath(data, folder)
    return str(data.resolve()) if relative.count("..") > 2 else relative


def _yaml_string(text: str) -> str:
    """A single-quoted YAML scalar."""
    return "'" + text.replace("'", "''") + "'"
