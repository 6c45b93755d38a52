"""Fit many measurements in one process, and print one table."""

from __future__ import annotations

import argparse
import csv
import glob
import io
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from homodyne_fit.atomic import replacing
from homodyne_fit.cli.commands.check import plan_lines
from homodyne_fit.cli.commands.fit import Outputs, fit_config
from homodyne_fit.cli.console import explanation, print_json, table
from homodyne_fit.cli.figure_options import figure_files
from homodyne_fit.cli.overrides import overrides_of, warn_of_foreign_options
from homodyne_fit.cli.reporter import Reporter, reporter_of
from homodyne_fit.config import Config
from homodyne_fit.config.configuration import examine
from homodyne_fit.config.plan import Plan, plan_of
from homodyne_fit.data.selection import Selection
from homodyne_fit.errors import InputError, counted, encodable
from homodyne_fit.report.numbers import format_estimate
from homodyne_fit.results.folder import require_room
from homodyne_fit.results.names import RESULT

DATA_SUFFIXES = (".h5", ".hdf", ".hdf5", ".nxs", ".npy", ".npz")

COLUMNS = ("verdict", "J (Å²/s)", "shear rate (1/s)", "phi0 (°)", "noise", "cautions")

# Name of the table as a file.
TABLE = "batch.csv"

# Columns of this file before those of the parameters.
CSV_COLUMNS = ("fit", "results", "verdict", "cautions", "noise", "error", "note")

# Numbers of the quality of a fit in this file.
QUALITY_COLUMNS = ("reduced_chi2", "nrmse", "aic", "bic")


@dataclass
class Job:
    """One fit of a batch.

    Attributes
    ----------
    name : str
        The configuration, and the data file if it is from ``--data``.
    config, selection, folder : Config, Selection, Path, or None
        None if the configuration has a mistake.
    note : str
        Values that are from the configuration because the data file does not have them.
    error : str or None
        The message of an error.
    verdict : str
        Verdict in the table if there is no row.
    row : dict or None
        The result of the fit, for the table and as JSON.
    """

    name: str
    config: Config | None = None
    selection: Selection | None = None
    folder: Path | None = None
    note: str = ""
    error: str | None = None
    verdict: str = "error"
    row: dict[str, Any] | None = None


def run(args: argparse.Namespace) -> int:
    """Run all fits, even if some fail; return 1 after an error, else 2 if one did not converge."""
    with reporter_of(args) as reporter:
        return _run_all(args, reporter)


def _run_all(args: argparse.Namespace, reporter: Reporter) -> int:
    warn_of_foreign_options(args)
    figure_files(args)  # mistakes in its options are reported before a fit
    jobs = _planned(args)
    _require_distinct(jobs)
    if args.dry_run:
        return _show(jobs, args, reporter)
    interrupted = False
    for number, job in enumerate(jobs, 1):
        reporter.print(f"[{number}/{len(jobs)}] {job.name}", style="bold")
        try:
            _run(job, args, reporter)
        except KeyboardInterrupt as stop:
            interrupted = True
            job.error, job.verdict = explanation(stop), "interrupted"
            _print_error(job, reporter)
            for left in jobs[number:]:
                left.error, left.verdict = "the batch was interrupted", "not run"
            break
    written = _write_table(jobs, args.output_dir)
    if args.json:
        print_json(
            [
                {"name": job.name, "note": job.note, **(job.row or {"error": job.error})}
                for job in jobs
            ]
        )
    else:
        if written is not None:
            reporter.print(f"table: {written}")
        _print_table(reporter, jobs)
    if interrupted:
        raise KeyboardInterrupt
    if any(job.error is not None for job in jobs):
        return 1
    return 0 if all(job.row and _succeeded(job.row) for job in jobs) else 2


def _succeeded(row: dict[str, Any]) -> bool:
    """Whether the fit converged and, where there is one, the posterior."""
    return row["fit"]["success"] and row.get("posterior", row["fit"])["success"]


def _planned(args: argparse.Namespace) -> list[Job]:
    """Read all configurations before the first fit, so that mistakes are reported at once."""
    if not args.configs:
        misplaced = [path for path in args.data if path.endswith((".yaml", ".yml"))]
        hint = f"; write {' '.join(misplaced)} before --data" if misplaced else ""
        raise InputError(f"batch needs a configuration: homodyne_fit batch CONFIG{hint}")
    jobs = []
    # A pattern for data may also match results of fits.
    data_files = [Path(path) for path in _matching(args.data) if Path(path).name != RESULT]
    for config in args.configs:
        if config.endswith(DATA_SUFFIXES):
            raise InputError(f"{config}: is a data file; write --data before data files")
    for config in _matching(args.configs):
        for data in data_files or [None]:
            jobs.append(_plan(Path(config), data, args))
    return jobs


def _plan(path: Path, data: Path | None, args: argparse.Namespace) -> Job:
    job = Job(str(path) if data is None else f"{path}, {data}")
    data_file = [] if data is None else [("experimental_data.file_path", str(data.absolute()))]
    try:
        job.config, job.selection = examine(path, [*overrides_of(args), *data_file])
    except InputError as error:
        job.error = str(error)
        return job
    folder: Path = job.config.output_folder
    if args.output_dir is not None:
        folder = args.output_dir / f"{path.stem}_results"
    job.folder = folder if data is None else folder.with_name(f"{folder.name}_{data.stem}")
    if data is not None:
        job.note = _taken_from_configuration(job.selection)
    return job


def _taken_from_configuration(selection: Selection) -> str:
    """A note on values that are from the configuration, which may be meant for another file."""
    file = selection.file
    values = [f"q = {selection.q[0]:g} Å⁻¹"] if file.q is None else []
    values += [f"dt = {selection.dt:g} s"] if file.dt is None else []
    if file.phi is None and len(selection.phi) > 1:
        values.append(f"φ = {', '.join(f'{phi:g}' for phi in selection.phi)}°")
    return f"from the configuration, not the file: {', '.join(values)}" if values else ""


def _matching(patterns: list[str]) -> list[str]:
    """Paths, and the files that match patterns, each once."""
    paths: dict[Path, str] = {}
    for pattern in patterns:
        is_path = Path(pattern).exists() or not glob.has_magic(pattern)
        matches = [pattern] if is_path else sorted(glob.glob(_literal(pattern), recursive=True))
        if not matches:
            raise InputError(f"{pattern}: no file matches")
        for path in matches:
            paths.setdefault(Path(path).resolve(), path)
    return list(paths.values())


def _literal(pattern: str) -> str:
    """The pattern with its first folders as they are named, if such folders exist."""
    path = Path(pattern)
    for parent in path.parents:
        if parent.is_dir() and parent != Path():
            return str(Path(glob.escape(str(parent)), path.relative_to(parent)))
    return pattern


def _require_distinct(jobs: list[Job]) -> None:
    """Refuse two fits that would write into the same folder."""
    seen: dict[Path, str] = {}
    for job in jobs:
        if job.folder is None:
            continue
        folder = job.folder.resolve()
        if folder in seen:
            raise InputError(
                f"{job.folder}: {seen[folder]} and {job.name} would both write their results "
                "there; rename one, or fit them separately, each with an --output-dir"
            )
        seen[folder] = job.name


def _show(jobs: list[Job], args: argparse.Namespace, reporter: Reporter) -> int:
    """Print the plan or the mistakes of each fit; return 1 if there are mistakes, else 0."""
    plans = [_plan_of(job, overwrite=args.overwrite) for job in jobs]
    planned = list(zip(jobs, plans, strict=True))
    if args.json:
        print_json(
            [
                {
                    "name": job.name,
                    "note": job.note,
                    **(plan.to_json() if plan else {"error": job.error}),
                }
                for job, plan in planned
            ]
        )
    else:
        for number, (job, plan) in enumerate(planned, 1):
            if not args.quiet:
                print(f"[{number}/{len(jobs)}] {job.name}")
                notes = [f"note: {job.note}"] if job.note else []
                lines = plan_lines(plan, overwrite=args.overwrite) if plan else []
                print("\n".join([*notes, *lines]))
            _print_error(job, reporter)
    return 1 if any(job.error is not None for job in jobs) else 0


def _plan_of(job: Job, *, overwrite: bool) -> Plan | None:
    """The plan of a fit; None, with an error in the job, if it has mistakes."""
    if job.config is None or job.selection is None or job.folder is None:
        return None
    try:
        require_room(job.folder, overwrite=overwrite)
        return plan_of(job.config, job.selection, job.folder)
    except Exception as error:  # noqa: BLE001 the other plans are shown, too
        job.error = explanation(error)
        return None


def _run(job: Job, args: argparse.Namespace, reporter: Reporter) -> None:
    """Run one fit; an error is kept in the job, and the batch continues."""
    try:
        if job.config is not None and job.folder is not None:
            if job.note:
                reporter.print(f"note: {job.note}")
            analysis = fit_config(
                job.config,
                Outputs(job.folder, args.overwrite, args.export, figure_files(args)),
                reporter,
                selection=job.selection,
                warn=not args.quiet,
                verbose=args.verbose,
            )
            job.row = {"results": str(job.folder), **analysis.to_json()}
    except Exception as error:  # noqa: BLE001 the other fits must run
        job.error = explanation(error)
        if args.verbose:
            traceback.print_exc()
    _print_error(job, reporter)


def _print_error(job: Job, reporter: Reporter) -> None:
    for line in (job.error or "").splitlines():
        reporter.complain(f"homodyne_fit: error: {line}")


def _print_table(reporter: Reporter, jobs: list[Job]) -> None:
    """One line for each fit: verdict, rates at mid-measurement, direction of the flow, noise."""
    lines = table([COLUMNS, *map(_cells, jobs)]).splitlines()
    for line, name in zip(lines, ("fit", *(job.name for job in jobs)), strict=True):
        reporter.print(f"{line}  {name}")
    unfinished = sum(job.error is not None and job.verdict != "error" for job in jobs)
    failed = sum(job.error is not None for job in jobs) - unfinished
    stopped = sum(job.row is not None and not job.row["fit"]["success"] for job in jobs)
    converged = len(jobs) - failed - stopped - unfinished
    reporter.print(
        f"{counted(len(jobs), 'fit')}: {converged} converged, {stopped} did not, "
        f"{counted(failed, 'error')}" + (f", {unfinished} not finished" if unfinished else "")
    )


def _write_table(jobs: list[Job], folder: Path | None) -> Path | None:
    """Write the table as CSV, with all digits, if a fit has run.

    It is in the folder, or else beside the first configuration that was fitted.
    """
    fitted = [job.config.path.parent for job in jobs if job.row and job.config]
    if not fitted:
        return None
    rows = [_csv_row(job) for job in jobs]
    path = (folder or fitted[0]) / TABLE
    text = io.StringIO()
    table = csv.DictWriter(text, dict.fromkeys(name for row in rows for name in row))
    table.writeheader()
    table.writerows(rows)
    with replacing(path) as temporary:
        temporary.write_bytes(encodable(text.getvalue()).encode())
    return path


def _csv_row(job: Job) -> dict[str, object]:
    """One fit: what became of it, and value and standard error of rates and parameters."""
    if job.row is None:
        values = (job.name, job.folder or "", job.verdict, "", "", job.error or "", job.note)
        return dict(zip(CSV_COLUMNS, values, strict=True))
    fit, identifiability = job.row["fit"], job.row["identifiability"]
    verdict = "converged" if fit["success"] else "not converged"
    cautions = " ".join(identifiability["warnings"])
    values = (job.name, job.row["results"], verdict, cautions, fit["noise"], "", job.note)
    row: dict[str, object] = dict(zip(CSV_COLUMNS, values, strict=True))
    row |= {name: fit["goodness"][name] for name in QUALITY_COLUMNS}
    for name, estimate in (identifiability["rates"] | job.row["parameters"]).items():
        row |= {name: estimate["value"], f"{name}_stderr": estimate["stderr"]}
    return row


def _cells(job: Job) -> tuple[str, ...]:
    if job.row is None:
        return (job.verdict, *[""] * (len(COLUMNS) - 1))
    verdict = "converged" if job.row["fit"]["success"] else "NOT CONVERGED"
    rates = job.row["identifiability"]["rates"]
    shown = (rates.get("J"), rates.get("gamma_dot"), job.row["parameters"].get("phi0"))
    cautions = str(len(job.row["identifiability"]["warnings"]) or "–")
    return verdict, *map(_with_error, shown), f"{job.row['fit']['noise']:.3g}", cautions


def _with_error(estimate: dict[str, Any] | None) -> str:
    if estimate is None:
        return "–"
    error = estimate["stderr"]
    return format_estimate(estimate["value"], float("nan") if error is None else error)
