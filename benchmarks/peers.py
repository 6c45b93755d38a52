"""homodyne and xpcsjax beside homodyne_fit: the same file, the same start, in the same run.

Every program reads one simulated APS-U file and fits it in a process of its own, through its
documented Python calls (load the data, then fit), with the configuration that its own tool writes.
Changed in that configuration are only

  - the file, q, gap, frame time and frames, which every user has to fill in;
  - `phi_filtering`, switched off: the templates keep angles within ±10° of 0° and 85° to 95° only;
  - `per_angle_mode`, and the start values, which all programs share: 50 % off the truth.

Bounds, loss (soft_l1 at residuals far below 1, so least squares), tolerances and iteration limits
stay as the templates have them; the bounds are also our defaults. What else it takes for all to
see the same points:

  - A folder for each run. The peers leave a cache of the matrices beside the data, named by frames
    and q, and would read it again for another file.
  - One q in the file and no empty (q, φ) bin: then their rule for the angle of a matrix is right.
  - Python calls, not their command lines. That of homodyne drops the first frame, and both draw.
  - They count each pair of times twice and add an interpolated diagonal. That can't be switched
    off; it makes the errors they state √2 too small. Their times start at 0, as ours do.

The number of points matters, too: from 100,000 of theirs on (3 angles × 183 frames) both put the
points into another order first, and homodyne's fit then leaves the physics where it started.

Both compute sin(x)/x to the fourth power with x = q h cos·Γ/(2π) where their documents have the
square and x = q h cos·Γ/2. With `--shear documented` the data follow the documents: the peers fit
another curve, and their shear rates mean something else, so only J is compared. With
`--shear homodyne` the data follow their code, and homodyne_fit has its `model.shear: homodyne`
switched on; then the shear rates are compared, too.

`make bench-peers` sets up `.venv-peers`, where the peers live, and runs

    .venv/bin/python benchmarks/peers.py [--frames 101] [--angles 0,45,90] [--seeds 1] [...]

`benchmarks/peers_plot.py` draws time and memory against points from what `--output` writes.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

ROOT = Path(__file__).resolve().parent.parent
PEERS = ROOT / ".venv-peers" / "bin"
PROGRAMS = ("homodyne", "xpcsjax", "ours")
# What `benchmarks/in_memory.py` fits, with contrast and offset of each angle in every mode.
IN_MEMORY = ("scipy", "nlsq")
MODES = ("auto", "individual")
PHYSICS = ("D0", "alpha", "D_offset", "gamma_dot_t0", "beta", "gamma_dot_t_offset", "phi0")
# How a peer writes its template for laminar flow.
TEMPLATE = {"homodyne": "homodyne-config", "xpcsjax": "xpcsjax-config"}
TIMEOUT = 1200.0

# The default measurement: q² ∫J is 0.2 after 10 s, ½ q h ∫γ̇ is 36.
TRUTH = dict(zip(PHYSICS, (1200.0, -0.4, 150.0, 4e-4, 0.25, 5e-5, 3.0), strict=True))
Q, GAP, DT, NOISE, CONTRAST = 0.0054, 2e6, 0.1, 0.02, 0.3


@dataclass(frozen=True)
class Geometry:
    """How the sample is seen: Å⁻¹, Å, seconds, frames, degrees."""

    q: float
    gap: float
    dt: float
    n_frames: int
    phi: tuple[float, ...]

    @property
    def n_points(self) -> int:
        """Points t1 < t2 at all angles."""
        return len(self.phi) * self.n_frames * (self.n_frames - 1) // 2


def run_peer(
    program: str,
    mode: str,
    folder: Path,
    data_file: Path,
    geometry: Geometry,
    start: Mapping[str, float],
    timeout_s: float = TIMEOUT,
    *,
    shear: str = "documented",
) -> dict[str, Any]:
    """Fit one file with one program in a process of its own.

    Parameters
    ----------
    program : str
        'homodyne', 'xpcsjax' or 'ours'; 'scipy' or 'nlsq' for the shear term of homodyne's code.
    mode : str
        Its `per_angle_mode`.
    folder : Path
        Where the run leaves everything; must be new or empty.
    data_file : Path
        APS-U file with one q and every angle of the geometry.
    start : mapping
        Start values of the seven physical parameters.
    timeout_s : float
        Afterwards the process is ended, and `finished` is False.
    shear : str
        What homodyne_fit fits: 'documented' or 'homodyne'.

    Returns
    -------
    dict
        `finished`, `seconds` and `peak_mb` of the whole process, and `message`. Of a run that
        came to an end: `converged`, by its own account; `parameters`, `contrast` and `offset`
        (one of each for every angle), `mean_J` and `mean_gamma_dot` (over all frames), each a pair
        of value and standard error, NaN where none is given; `moved`, whether any physical
        parameter left its start; `passes` over the data, or None; `mode_used`, where it says so;
        `phi`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise FileExistsError(f"{folder} is not empty: a peer would find caches there")
    beside = folder / f"data{data_file.suffix}"
    beside.symlink_to(data_file.resolve())
    config, output = folder / "config.yaml", folder / "answer.json"
    settings = configuration(program, mode, folder, beside, geometry, start, shear)
    config.write_text(yaml.safe_dump(settings, sort_keys=False, allow_unicode=True), "utf-8")
    python = PEERS / "python" if program in TEMPLATE else Path(sys.executable)
    command = [str(python), __file__, "--fit", program, str(config), str(output)]
    run: dict[str, Any] = {"program": program, "mode": mode}
    run |= watched(command, folder, timeout_s)
    log = (folder / "log.txt").read_text("utf-8", errors="replace")
    if not run["finished"]:
        return run | {"message": f"not finished after {timeout_s:g} s"}
    if not output.exists():
        last = log.strip().splitlines()[-1:] or ["no output"]
        return run | {"converged": False, "message": f"failed: {last[0]}"}
    found = json.loads(output.read_text("utf-8"))
    run |= _answer(found, log, geometry, data_file)
    moved = any(not np.isclose(run["parameters"][n][0], start[n], rtol=1e-6) for n in PHYSICS)
    return run | {"moved": moved}


def configuration(
    program: str,
    mode: str,
    folder: Path,
    data_file: Path,
    geometry: Geometry,
    start: Mapping[str, float],
    shear: str,
) -> dict[str, Any]:
    """The configuration of a run: the peer's own template, filled in."""
    if program not in TEMPLATE:
        settings: dict[str, Any] = {"analysis_mode": "laminar_flow", "model": {"shear": shear}}
    else:
        tool = PEERS / TEMPLATE[program]
        if not tool.exists():
            raise FileNotFoundError(f"{tool} is missing: run `make bench-peers` once")
        template = folder / "template.yaml"
        subprocess.run(
            [tool, "--mode", "laminar_flow", "--output", template],
            check=True,
            capture_output=True,
        )
        settings = yaml.safe_load(template.read_text("utf-8"))
        settings["phi_filtering"]["enabled"] = False
        # Unused keys point at folders that do not exist; homodyne caches in this one.
        settings["experimental_data"] |= {
            "cache_file_path": str(folder),
            "phi_angles_path": str(folder),
        }
    _section(settings, "analyzer_parameters").update(
        dt=geometry.dt, start_frame=1, end_frame=geometry.n_frames
    )
    _section(settings, "analyzer_parameters", "scattering")["wavevector_q"] = geometry.q
    _section(settings, "analyzer_parameters", "geometry")["stator_rotor_gap"] = geometry.gap
    where = {"data_folder_path": str(data_file.parent), "data_file_name": data_file.name}
    if program != "ours":  # which takes either, not both
        where["file_path"] = str(data_file)
    _section(settings, "experimental_data").update(where)
    _section(settings, "initial_parameters").update(
        parameter_names=list(PHYSICS), values=[float(start[name]) for name in PHYSICS]
    )
    _section(settings, "optimization", "nlsq", "anti_degeneracy")["per_angle_mode"] = mode
    return settings


def _section(settings: dict[str, Any], *path: str) -> dict[str, Any]:
    for key in path:
        settings = settings.setdefault(key, {})
    return settings


def watched(command: Sequence[str], folder: Path, timeout_s: float) -> dict[str, Any]:
    """Run a command; its wall time and peak memory. Ended with its children after the timeout."""
    with (folder / "log.txt").open("wb") as log:
        began = time.perf_counter()
        process = subprocess.Popen(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        finished, done = True, 0
        try:
            while not done:
                # wait4, and not Popen.wait, because only it tells the memory of this one child.
                done, status, usage = os.wait4(process.pid, os.WNOHANG)
                if not done and time.perf_counter() - began > timeout_s:
                    os.killpg(process.pid, signal.SIGKILL)
                    done, status, usage = os.wait4(process.pid, 0)
                    finished = False
                elif not done:
                    time.sleep(0.02)
        finally:
            if not done:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            else:
                process.returncode = 0
        seconds = time.perf_counter() - began
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return {
        "finished": finished,
        "status": os.waitstatus_to_exitcode(status),
        "seconds": seconds,
        "peak_mb": usage.ru_maxrss / unit,
    }


def _answer(found: dict[str, Any], log: str, geometry: Geometry, data_file: Path) -> dict[str, Any]:
    """What a program found, in the same terms for all of them."""
    _check_points(found, geometry, data_file)
    k = len(geometry.phi)
    values = np.array(found["values"])
    covariance = np.array(found["covariance"], dtype=float)
    errors = np.array(found["errors"], dtype=float)
    # In front of the physics stand all contrasts and all offsets, or one that all angles share.
    physics = slice(len(values) - 7, None)
    n_scaling = len(values) - 7
    if n_scaling not in (2, 2 * k):
        raise RuntimeError(f"{len(values)} parameters for {k} angles: which are they?")
    pairs = list(zip(values.tolist(), errors.tolist(), strict=True))
    share = 2 * k // n_scaling
    scaling = [pair for pair in pairs[:n_scaling] for _ in range(share)]
    means = found.get("means") or _means(values[physics], covariance[physics, physics], geometry)
    evaluations = re.findall(r"Function evaluations (\d+), initial cost", log)
    passes = found["passes"] or sum(map(int, evaluations)) or None
    return {
        "converged": found["converged"],
        "message": found["message"],
        "mode_used": found["mode_used"],
        "passes": passes,
        "phi": found["phi"],
        "parameters": dict(zip(PHYSICS, pairs[physics], strict=True)),
        "contrast": scaling[:k],
        "offset": scaling[k:],
        **means,
    }


def _check_points(found: dict[str, Any], geometry: Geometry, data_file: Path) -> None:
    """Refuse an answer to other angles or frames than the file has."""
    from homodyne_fit.data.loading import load

    data = load(data_file, q=geometry.q)
    upper = np.triu_indices(geometry.n_frames, 1)
    ours = [float(np.mean(np.asarray(c2, dtype=float)[upper])) for c2 in data.c2]
    if found["phi"] != list(geometry.phi) or found["n_frames"] != geometry.n_frames:
        raise RuntimeError(
            f"it fitted {found['n_frames']} frames at {found['phi']}°, "
            f"not {geometry.n_frames} at {list(geometry.phi)}°"
        )
    if not np.allclose(found["mean_c2"], ours, rtol=1e-6, atol=0):
        raise RuntimeError(f"the mean c2 it saw is {found['mean_c2']}, that in the file {ours}")


def _means(
    values: np.ndarray, covariance: np.ndarray, geometry: Geometry
) -> dict[str, tuple[float, float]]:
    """J and the shear rate averaged over the frames, with linearly propagated errors."""
    from homodyne_fit.model.rates import LAMINAR_FLOW, rates

    times = np.arange(geometry.n_frames) * geometry.dt
    curves, jacobian = rates(LAMINAR_FLOW, values, times, times[-1] / 2, geometry.dt)
    mean, slope = curves.mean(axis=1), jacobian.mean(axis=1)
    variance = np.einsum("ri,ij,rj->r", slope, covariance, slope)
    with np.errstate(invalid="ignore"):
        errors = np.sqrt(variance)
    names = ("mean_J", "mean_gamma_dot")
    return {n: (float(m), float(e)) for n, m, e in zip(names, mean, errors, strict=True)}


# --- In the process that fits: nothing of ours is imported there but for 'ours' ---


def fit_here(program: str, config: str, output: Path) -> None:
    """Load and fit as the program's documents say; write what it found."""
    if program in IN_MEMORY:
        import in_memory

        found = in_memory.fit(program, config)
    else:
        found = {"homodyne": _homodyne, "xpcsjax": _xpcsjax, "ours": _ours}[program](config)
    partial = output.with_suffix(".partial")
    partial.write_text(json.dumps(found), "utf-8")
    partial.rename(output)


def _homodyne(config: str) -> dict[str, Any]:
    from homodyne.config import ConfigManager
    from homodyne.data import load_xpcs_data
    from homodyne.optimization import fit_nlsq_jax

    data = load_xpcs_data(config)
    return _peer_answer(data, fit_nlsq_jax(data, ConfigManager(config)))


def _xpcsjax(config: str) -> dict[str, Any]:
    from xpcsjax import fit_nlsq, load_xpcs_data

    data = load_xpcs_data(config)
    return _peer_answer(data, fit_nlsq(data, config))


def _peer_answer(data: Mapping[str, Any], result: Any) -> dict[str, Any]:
    diagnostics = result.nlsq_diagnostics or {}
    return {
        **_seen(data["c2_exp"], data["phi_angles_list"]),
        "values": np.asarray(result.parameters).tolist(),
        "errors": np.asarray(result.uncertainties).tolist(),
        "covariance": np.asarray(result.covariance).tolist(),
        "converged": result.convergence_status == "converged",
        "message": f"{result.convergence_status}, quality {result.quality_flag}",
        "mode_used": diagnostics.get("per_angle_mode"),
        "passes": None,
    }


def _ours(config: str) -> dict[str, Any]:
    from homodyne_fit.config import load_config
    from homodyne_fit.fitting.fit import fit

    loaded = load_config(Path(config))
    data = loaded.load_data()
    result = fit(data, loaded.settings())
    k = len(result.contrast)
    order = [*range(7, 7 + 2 * k), *range(7)]
    estimates = [*result.contrast, *result.offset, *result.parameters.values()]
    return {
        **_seen(data.c2, data.phi),
        "values": [estimate.value for estimate in estimates],
        "errors": [estimate.stderr for estimate in estimates],
        "covariance": result.covariance[np.ix_(order, order)].tolist(),
        "converged": result.success,
        "message": result.info.message,
        "mode_used": result.objective.scaling.mode,
        "passes": result.info.passes,
        "means": {"mean_J": result.mean_J(), "mean_gamma_dot": result.mean_gamma_dot()},
    }


def _seen(c2: Any, phi: Any) -> dict[str, Any]:
    matrices = np.asarray(c2, dtype=float)
    upper = np.triu_indices(matrices.shape[-1], 1)
    return {
        "phi": np.asarray(phi, dtype=float).tolist(),
        "n_frames": matrices.shape[-1],
        "mean_c2": [float(np.mean(matrix[upper])) for matrix in matrices],
    }


# --- The script ---


@dataclass(frozen=True)
class Simulated:
    """A simulated file and what is true of it; `mean` by the names of `run_peer`."""

    path: Path
    geometry: Geometry
    contrast: tuple[float, ...]
    offset: tuple[float, ...]
    mean: dict[str, float]


def simulate(
    path: Path,
    geometry: Geometry,
    parameters: Mapping[str, float],
    *,
    contrast_spread: float = 0.0,
    offset_spread: float = 0.0,
    shear: str = "documented",
    noise: float = NOISE,
    seed: int = 0,
) -> Simulated:
    """Write an APS-U file with white noise; contrasts and offsets differ by relative spreads."""
    from homodyne_fit.data.formats.aps_u import write_aps_u
    from homodyne_fit.fitting.settings import SHEAR_FORMS
    from homodyne_fit.model.rates import LAMINAR_FLOW, decay, rates

    g, k, n = geometry, len(geometry.phi), geometry.n_frames
    values = [parameters[name] for name in PHYSICS]
    rng = np.random.default_rng(seed)
    contrast = CONTRAST * (1 + contrast_spread * rng.normal(size=k))
    offset = 1 + offset_spread * rng.normal(size=k)
    power, phase = SHEAR_FORMS[shear]
    c2 = np.empty((k, n, n))
    for i, phi in enumerate(g.phi):
        f = decay(LAMINAR_FLOW, values, g.dt, n, g.q, phi, g.gap, power, phase)
        c2[i] = offset[i] + contrast[i] * f + rng.normal(0.0, noise, (n, n))
    write_aps_u(path, c2, [g.q], list(g.phi), np.arange(k), g.dt)
    times = np.arange(n) * g.dt
    j, gamma_dot = rates(LAMINAR_FLOW, values, times, times[-1] / 2, g.dt)[0].mean(axis=1)
    mean = {"mean_J": float(j), "mean_gamma_dot": float(gamma_dot)}
    return Simulated(path, g, tuple(contrast.tolist()), tuple(offset.tolist()), mean)


def _rms(values: Sequence[float]) -> float:
    return float(np.sqrt(np.mean(np.square(values)))) if len(values) else np.nan


def _error(runs: Sequence[dict[str, Any]], truths: Sequence[Simulated], name: str) -> str:
    """Error in %, and in its own standard errors; RMS of both over several seeds."""
    relative, pulls = [], []
    for run, truth in zip(runs, truths, strict=True):
        if name in run:
            value, error = run[name]
            true = truth.mean[name]
            relative.append(100 * (value / true - 1))
            if np.isfinite(error) and error > 0:
                pulls.append((value - true) / error)
    if not relative:
        return "– | –"
    if len(runs) == 1:
        pull = f"{pulls[0]:+.1f}" if pulls else "no error"
        return f"{relative[0]:+.2f} | {pull}"
    missing = len(relative) - len(pulls)
    without = f" ({missing} without error)" if missing else ""
    return f"{_rms(relative):.2f} | {_rms(pulls):.1f}{without}"


def _row(runs: Sequence[dict[str, Any]], truths: Sequence[Simulated], names: Sequence[str]) -> str:
    program, mode = runs[0]["program"], runs[0]["mode"]
    used = {run["mode_used"].removeprefix("auto: ") for run in runs if run.get("mode_used")}
    label = f"{'homodyne_fit' if program == 'ours' else program}, {mode}"
    label += f" → {', '.join(sorted(used))}" if used - {mode} else ""
    seconds = f"{np.median([run['seconds'] for run in runs]):.1f}"
    passes = [run["passes"] for run in runs if run.get("passes")]
    counted = f"{np.median(passes):.3g}" if passes else "?"
    unmoved = sum(not run.get("moved", True) for run in runs)
    if len(runs) == 1:
        converged = "yes" if runs[0].get("converged") else runs[0]["message"].replace("|", "/")
        converged += ", with the start for an answer" if unmoved else ""
    else:
        converged = f"{sum(bool(run.get('converged')) for run in runs)} of {len(runs)}"
        unfinished = sum(not run["finished"] for run in runs)
        converged += f" ({unfinished} not finished)" if unfinished else ""
        converged += f" ({unmoved} with the start for an answer)" if unmoved else ""
    peak = f"{max(run['peak_mb'] for run in runs):.0f}"
    errors = [_error(runs, truths, name) for name in names]
    return "| " + " | ".join([label, seconds, peak, counted, converged, *errors]) + " |"


def main() -> None:
    """Simulate, run all programs one after the other, print the table."""
    summary = (__doc__ or "").splitlines()[0]
    parser = argparse.ArgumentParser(description=summary)
    parser.add_argument("--frames", type=int, default=101)
    parser.add_argument("--angles", default="0,45,90", help="degrees, with commas")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--contrast-spread", type=float, default=0.1, help="relative")
    parser.add_argument("--offset-spread", type=float, default=0.02, help="relative")
    parser.add_argument("--shear", choices=("documented", "homodyne"), default="documented")
    parser.add_argument("--only", nargs="+", choices=PROGRAMS + IN_MEMORY, default=PROGRAMS)
    parser.add_argument("--modes", nargs="+", default=MODES)
    parser.add_argument("--timeout", type=float, default=TIMEOUT, help="seconds for each run")
    parser.add_argument("--keep", type=Path, help="new folder for data, logs and configurations")
    parser.add_argument("--output", type=Path, help="all runs, as JSON")
    options = parser.parse_args()
    phi = tuple(float(angle) for angle in options.angles.split(","))
    geometry = Geometry(Q, GAP, DT, options.frames, phi)
    start = {name: 1.5 * value for name, value in TRUTH.items()}
    runs: dict[tuple[str, str], list[dict[str, Any]]] = {}
    truths = []
    with contextlib.ExitStack() as stack:
        root = options.keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        root.mkdir(parents=True, exist_ok=True)
        for seed in range(options.seeds):
            truth = simulate(
                root / f"seed{seed}.h5",
                geometry,
                TRUTH,
                contrast_spread=options.contrast_spread,
                offset_spread=options.offset_spread,
                shear=options.shear,
                seed=seed,
            )
            truths.append(truth)
            for program in options.only:
                for mode in options.modes:
                    folder = root / f"seed{seed}-{program}-{mode}"
                    print(f"\r{folder.name:40}", end="", file=sys.stderr, flush=True)
                    run = run_peer(
                        program,
                        mode,
                        folder,
                        truth.path,
                        geometry,
                        start,
                        options.timeout,
                        shear=options.shear,
                    )
                    run |= {"points": truth.geometry.n_points, "true": truth.mean}
                    runs.setdefault((program, mode), []).append(run)
    print("\r" + " " * 40 + "\r", end="", file=sys.stderr, flush=True)
    if options.output:
        everything = [run for each in runs.values() for run in each]
        options.output.write_text(json.dumps(everything, indent=1), "utf-8")
    names = ["mean_J"] + (["mean_gamma_dot"] if options.shear == "homodyne" else [])
    per_seed = "" if options.seeds == 1 else ", RMS"
    print(
        f"{len(phi)} angles × {options.frames} frames, contrasts ± {options.contrast_spread:.0%}, "
        f"offsets ± {options.offset_spread:.0%}, noise {NOISE:g}, {options.seeds} seed(s).\n"
        f"Shear term of the data: {options.shear}. Shear rates are "
        + ("compared: all programs fit that form.\n" if len(names) == 2 else "not comparable.\n")
    )
    heads = ["program, mode", "wall s", "peak MB", "passes", "converged"]
    for name in names:
        what = {"mean_J": "J", "mean_gamma_dot": "γ̇"}[name]
        heads += [f"error of mean {what}{per_seed}, %", "in its own σ"]
    print("| " + " | ".join(heads) + " |")
    print("|" + "---|" * len(heads))
    for each in runs.values():
        print(_row(each, truths, names))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--fit"]:
        if sys.argv[2] in ("homodyne", "xpcsjax"):
            # They import numba, and numba `coverage`, which is also the name of a file here.
            sys.path.pop(0)
        fit_here(sys.argv[2], sys.argv[3], Path(sys.argv[4]))
    else:
        main()
