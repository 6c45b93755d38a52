"""A configuration for a data file, as `homodyne_fit init` writes it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from homodyne_fit.errors import InputError, Problem, counted, rename_places

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from homodyne_fit.data.formats import TwoTimeFile


# Keys for values that a data file may lack.
GAP = "analyzer_parameters.geometry.stator_rotor_gap"

DT = "analyzer_parameters.dt"

Q = "analyzer_parameters.scattering.wavevector_q"

PHI = "experimental_data.phi_angles"

# The options of ``init`` that set them.
OPTIONS = {GAP: "--gap", DT: "--dt", Q: "--q", PHI: "--phi"}

TEMPLATE = """\
# Configuration of homodyne_fit, made from {name}.{fill_in}

analysis_mode: {mode}

experimental_data:
  file_path: {path}{angles}

analyzer_parameters:
  {dt}{units}
  start_frame: 1  # counted from 1, included
  end_frame: -1  # -1 is the last of the {n_frames} frames
  scattering:
    {q}
  geometry:
    {gap}
{angle_choice}
# Rates are power laws; they get a constant part, or are constant, as the data need it, unless it is
# said here. Hold the parameters that you know:
# initial_parameters:
#   fixed_parameters: {{{fixed}}}
#   values: {{{start}}}  # start values; by default they come from the data

optimization:
  nlsq:
    anti_degeneracy:
      # Contrast and offset: with auto the data decide how far they differ between angles; with
      # individual each angle has its own pair; with averaged there is one pair for all angles
      per_angle_mode: auto
"""

ANGLE_CHOICE = """
# Angles to use, in degrees; by default all{listed}:
# phi_filtering:
#   target_ranges:
#     - {{min_angle: -10, max_angle: 10}}
#     - {{min_angle: 80, max_angle: 100}}
"""


def configuration(
    data: Path,
    folder: Path,
    *,
    q: float | None = None,
    dt: float | None = None,
    phi: Sequence[float] | None = None,
    gap: float | None = None,
    static: bool = False,
    units_confirmed: bool = False,
) -> tuple[str, list[str]]:
    """Text of a configuration for a data file, and the keys that are left to fill in.

    Parameters
    ----------
    data : Path
    folder : Path
        Folder of the configuration; the path of the data is relative to it.
    q, dt, phi, gap : float or sequence of float, optional
        Values that are not in the file: Å⁻¹, s, degrees, Å.
    static : bool
        Choose the model without flow; with one angle it is the default.
    units_confirmed : bool
        Whether values that look like another unit are right.
    """
    from homodyne_fit.data.formats import open_two_time
    from homodyne_fit.data.selection import about_file
    from homodyne_fit.data.units import NAMES, about_gap, unconfirmed

    file = open_two_time(data)
    open_questions = about_file(file, q, dt, phi)
    q, chosen, q_comment = _wave_vector(file, q)
    n_angles = len(chosen)
    dt, note = _frame_time(file, dt), _one_line(file.dt_note)
    mode = "laminar_flow  # or static: no flow"
    if static or n_angles == 1:
        why = "no flow" if static else "no flow, as there is one angle only"
        mode, static = f"static  # {why}; or laminar_flow", True
    if gap is not None and not static and (text := about_gap(gap)):
        open_questions["gap"] = text
    confirmed = tuple(open_questions) if units_confirmed else ()
    questions = list(unconfirmed(open_questions, confirmed, lambda _: "add --units-confirmed"))
    if questions:
        raise InputError(Problem(str(file.path), question) for question in questions)
    confirmed_names = [NAMES[quantity] for quantity in open_questions]
    _require_angles(file, phi, n_angles)
    known = phi if file.phi is None else file.phi[chosen]
    phi_text = ", ".join(map(_yaml_number, phi or ()))
    angles = f"\n  phi_angles: [{phi_text}]" if phi_text else ""
    if known is None and n_angles > 1:
        angles = f"\n  phi_angles: null  # FILL IN: a list of {n_angles} angles, degrees"
    values = {PHI: known, DT: dt, Q: q, GAP: gap}
    needed = [DT, Q, *([PHI] if n_angles > 1 else []), *([] if static else [GAP])]
    missing = [key for key, value in values.items() if value is None and key in needed]
    text = TEMPLATE.format(
        name=_yaml_string(data.name),
        mode=mode,
        path=_yaml_string(_relative(data, folder)),
        angles=angles,
        units=f"\n  units_confirmed: [{', '.join(confirmed_names)}]" if confirmed_names else "",
        dt=_line("dt", dt, "s, time between two frames" + (f" ({note})" if note else "")),
        n_frames=file.n_frames,
        q=_line("wavevector_q", q, q_comment),
        gap=f"stator_rotor_gap: {_yaml_number(gap)}  # Å; not used without flow"
        if static
        else _line("stator_rotor_gap", gap, "Å, width of the sheared gap (1 mm = 1e7 Å)"),
        angle_choice=ANGLE_CHOICE.format(listed="" if known is None else f" of {_listed(known)}")
        if n_angles > 1
        else "",
        start="D0: 1000" if static else "D0: 1000, gamma_dot_t0: 0.001",
        fixed="D_offset: 0" if static else "D_offset: 0, gamma_dot_t_offset: 0",
        fill_in="\n# Fill in the values that are null and marked FILL IN." if missing else "",
    )
    return text, missing


def _wave_vector(file: TwoTimeFile, q: float | None) -> tuple[float | None, NDArray[np.intp], str]:
    """The wave vector to use, the positions of its matrices, and a comment."""
    import numpy as np

    from homodyne_fit.data.wave_vectors import nearest_q, q_groups

    if file.q is None:
        return q, np.arange(file.n_matrices), "Å⁻¹"
    groups = q_groups(file.q)
    if q is None and groups:
        q = max((len(group), file.q[group].mean()) for group in groups)[1]
    with rename_places({"q": "--q"}):
        chosen = nearest_q(file.q, q, str(file.path))
    others = [f"{file.q[g].mean():.6g}" for g in groups if g[0] != chosen[0]]
    comment = f"Å⁻¹; the file also has {', '.join(others)}" if others else "Å⁻¹"
    return float(file.q[chosen].mean()), chosen, comment


def _frame_time(file: TwoTimeFile, dt: float | None) -> float | None:
    from homodyne_fit.data.frames import SAME_DT

    if dt is None:
        return file.dt
    if file.dt is not None and not abs(dt - file.dt) <= SAME_DT * file.dt:
        raise InputError(
            f"{file.path}: --dt is {dt:g} s, but the file says {file.dt:g} s "
            f"({_one_line(file.dt_note)}); leave --dt out"
        )
    return dt


def _require_angles(file: TwoTimeFile, phi: Sequence[float] | None, n_angles: int) -> None:
    """Refuse angles if the file has its own, or if their number is wrong."""
    if phi is None:
        return
    if file.phi is not None:
        raise InputError(f"{file.path}: the file has its own angles; leave --phi out")
    if len(phi) not in (n_angles, file.n_matrices):
        raise InputError(
            f"{file.path}: --phi gives {counted(len(phi), 'angle')} for "
            f"{counted(n_angles, 'matrix')}"
        )


def _line(key: str, value: float | None, comment: str) -> str:
    """A key with its value, or with a comment that asks to fill it in."""
    return f"{key}: {_yaml_number(value)}  # {'FILL IN: ' if value is None else ''}{comment}"


def _listed(angles: Iterable[float]) -> str:
    return ", ".join(f"{angle:g}" for angle in angles)


def _relative(data: Path, folder: Path) -> str:
    """Path of the data relative to the configuration; absolute if it has many "..".

    Links are resolved first, since ".." after a link would be another folder.
    """
    relative = os.path.relpath(data.resolve(), folder.resolve())
    return str(data.resolve()) if Path(relative).parts.count("..") > 2 else relative


def _yaml_number(value: float | None) -> str:
    """A number for YAML, which needs a point before an exponent."""
    text = "null" if value is None else f"{value:.10g}"
    return text if "." in text or "null" in text else text.replace("e", ".0e")


def _yaml_string(text: str) -> str:
    """A YAML scalar in quotes, on one line."""
    import yaml

    # Double quotes are needed to escape characters that are not printable.
    quote = "'" if text.isprintable() else '"'
    return yaml.safe_dump(text, default_style=quote, allow_unicode=True, width=2**30).strip()


def _one_line(text: str) -> str:
    """The text without line breaks and other characters that would end a comment."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
