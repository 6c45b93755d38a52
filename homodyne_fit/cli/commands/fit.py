"""Fit the measurement that a configuration describes."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Collection
from concurrent.futures import Executor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from homodyne_fit.cli.cluster import connect
from homodyne_fit.cli.commands import check
from homodyne_fit.cli.console import new_console, print_json, reasons
from homodyne_fit.cli.overrides import overrides_of, warn_of_foreign_options
from homodyne_fit.config import Config, load_config
from homodyne_fit.config.configuration import examine
from homodyne_fit.data.dataset import TwoTimeData
from homodyne_fit.data.selection import Selection
from homodyne_fit.errors import InputError, counted
from homodyne_fit.posterior.extra import require_extra
from homodyne_fit.results.claim import claimed
from homodyne_fit.results.folder import (
    make_folder,
    prepare_folder,
    require_exportable,
    require_no_results,
    write_outputs,
)
from homodyne_fit.results.names import PARAMETERS_JSON, PLOTS, REPORT, RESULT

if TYPE_CHECKING:
    from homodyne_fit.analysis import Analysis
    from homodyne_fit.fitting.result import FitResult
    from homodyne_fit.posterior.draws import Posterior


def run(args: argparse.Namespace) -> int:
    """Fit, write the results, print a summary; return 0 if converged, else 2."""
    for name in ("phi_angles", "contrast", "offset"):
        if getattr(args, name) is not None and not args.plot_simulated_data:
            option = "--" + name.replace("_", "-")
            raise InputError(f"{option} has an effect only with --plot-simulated-data")
    drawn = args.plot_experimental_data or args.plot_simulated_data
    if args.json and drawn and not args.save_plots:
        raise InputError("--json prints the results of a fit; figures alone have none")
    warn_of_foreign_options(args)
    if args.dry_run:
        if args.plot_simulated_data:
            from homodyne_fit.cli import drawings

            drawings.simulated_data(load_config(args.config, overrides_of(args)), args)
        return check.show(
            args.config,
            args.output_dir,
            overrides_of(args),
            as_json=args.json,
            quiet=args.quiet,
            overwrite=args.overwrite,
        )
    if args.plot_simulated_data:
        config, selection = load_config(args.config, overrides_of(args)), None
    else:
        # Report mistakes together with those that the data file shows.
        config, selection = examine(args.config, overrides_of(args))
    if args.nlsq_result is not None and not config.root.optimization.samples:
        raise InputError("--nlsq-result has an effect only with --method mcmc")
    folder = args.output_dir or config.output_folder
    console = new_console(args.quiet or args.json)
    if drawn:
        _draw(config, selection, folder, args, console)
        if not args.save_plots:
            return 0
    with executor_at(args.scheduler, config.root.optimization.nlsq.threads) as executor:
        analysis = fit_config(
            config,
            folder,
            console,
            selection=selection,
            executor=executor,
            overwrite=args.overwrite,
            exports=args.export,
            plots=args.save_plots,
            warn=not args.quiet,
            verbose=args.verbose,
            earlier=args.nlsq_result,
        )
    if args.json:
        print_json(analysis.to_json())
    return 0 if succeeded(analysis) else 2


def succeeded(analysis: Analysis) -> bool:
    """Whether the fit converged and, where there is one, the posterior."""
    return analysis.success and (analysis.posterior is None or analysis.posterior.success)


def executor_at(
    scheduler: str | None, threads: int | None
) -> AbstractContextManager[Executor | None]:
    """The cluster of a scheduler, where a task has one thread by default; None without one."""
    if scheduler is None:
        return nullcontext()
    return connect(scheduler, threads or 1)


def fit_config(
    config: Config,
    folder: Path,
    console: Console,
    *,
    selection: Selection | None = None,
    executor: Executor | None = None,
    overwrite: bool = False,
    exports: Collection[str] = (),
    plots: bool = False,
    warn: bool = True,
    verbose: bool = False,
    earlier: Path | None = None,
) -> Analysis:
    """Load the data, fit, and write the results, for all commands that fit.

    Parameters
    ----------
    selection : Selection, optional
        Of the data file, if it has been examined already.
    warn, verbose : bool
        Whether to warn of keys without effect, and whether to list them.
    earlier : Path, optional
        Folder of an earlier fit, which is taken instead of a new one.
    """
    with claimed(folder):
        if not overwrite:
            require_no_results(folder)
        if config.root.optimization.samples:
            require_extra()
        if warn:
            _warn_of_ignored(config, verbose=verbose)
        settings = config.settings()
        if earlier is not None:
            from homodyne_fit.analysis import load_result

            fitted = load_result(earlier)
            data = fitted.data
        else:
            fitted, data = None, config.load_data(selection)
        require_exportable(data, exports)
        prepare_folder(folder, overwrite=overwrite, exports=exports, plots=plots)

        # Imported late: mistakes in the data are reported before JAX is loaded, for seconds.
        from homodyne_fit.analysis import Analysis
        from homodyne_fit.fitting.fit import fit
        from homodyne_fit.kernel.compilation import import_meanwhile, keep_compiled, require_device
        from homodyne_fit.report.summary import print_summary

        require_device()
        keep_compiled()
        import_meanwhile("scipy.optimize")
        import_meanwhile("homodyne_fit.report.html")
        console.print(f"{data.source}: {_described(data)}", markup=False)
        for note in data.notes:
            console.print(f"note: {note}", markup=False)
        if fitted is not None:
            console.print(f"the fit is that of {earlier}", markup=False)
            analysis = fitted
        else:
            with console.status("fitting") as status:
                result = fit(
                    data,
                    settings,
                    executor,
                    progress=lambda stage, passes, cost: status.update(
                        f"fitting: {stage}, pass {passes:.1f}, cost per point {cost:.6g}"
                    ),
                )
            analysis = Analysis.of(result, data, config.to_json())
        # Print the numbers first: to draw many angles takes longer than the fit.
        print_summary(console, analysis)
        posterior = None
        if config.root.optimization.samples and analysis.success:
            posterior = _sample(config, data, analysis, console)
            sampled = _with_sampling(analysis.config, config.to_json())
            analysis = replace(analysis, posterior=posterior.summary, config=sampled)
        _write(analysis, folder, console, exports=exports, plots=plots, posterior=posterior)
    return analysis


def _write(
    analysis: Analysis,
    folder: Path,
    console: Console,
    *,
    exports: Collection[str],
    plots: bool,
    posterior: Posterior | None,
) -> None:
    """Write all files; after an interrupt say which of them are there."""
    try:
        with console.status("writing the numbers") as status:
            written = write_outputs(
                analysis,
                folder,
                exports=exports,
                plots=plots,
                posterior=posterior,
                on_stage=status.update,
            )
    except KeyboardInterrupt as stop:
        if (folder / RESULT).exists() and not (folder / REPORT).exists():
            advice = f"the numbers are in {folder}; 'homodyne_fit report {folder}' draws the report"
            raise KeyboardInterrupt(advice) from stop
        if (folder / PARAMETERS_JSON).exists() and not (folder / RESULT).exists():
            raise KeyboardInterrupt(f"{PARAMETERS_JSON} is in {folder}, {RESULT} is not") from stop
        raise
    console.print(f"results: {folder}/ ({', '.join(written)})", markup=False)


def _sample(config: Config, data: TwoTimeData, result: FitResult, console: Console) -> Posterior:
    """Draw from the posterior and print what the draws say."""
    from homodyne_fit.posterior.sampling import sample_posterior
    from homodyne_fit.report.posterior import print_posterior

    nlsq = config.root.optimization.nlsq
    with console.status("posterior") as status:
        posterior = sample_posterior(
            data,
            result,
            config.posterior_settings(),
            threads=nlsq.threads,
            memory=nlsq.memory,
            progress=lambda text: status.update(f"posterior: {text}"),
        )
    print_posterior(console, posterior.summary, result)
    return posterior


def _with_sampling(fitted: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    """The configuration of a fit, and what another one says of the posterior."""
    of_posterior = {key: config["optimization"][key] for key in ("method", "mcmc")}
    return {
        **fitted,
        "parameter_space": config["parameter_space"],
        "optimization": {**fitted["optimization"], **of_posterior},
    }


def _described(data: TwoTimeData) -> str:
    return (
        f"{counted(len(data.phi), 'angle')}, {data.n_frames} frames, q = {data.q[0]:.4g} Å⁻¹, "
        f"dt = {data.dt:g} s"
    )


def _warn_of_ignored(config: Config, *, verbose: bool) -> None:
    """Say how many keys have no effect; with `verbose` also which, and why."""
    number = len(config.ignored)
    if not number:
        return
    line = f"homodyne_fit: warning: {config.path}: {counted(number, 'key')} without effect"
    if verbose:
        print("\n  ".join([f"{line}:", *reasons(config.without_effect)]), file=sys.stderr)
    else:
        where = shlex.quote(str(config.path))
        print(f"{line}; -v, or 'homodyne_fit check {where}', lists them", file=sys.stderr)


def _draw(
    config: Config,
    selection: Selection | None,
    folder: Path,
    args: argparse.Namespace,
    console: Console,
) -> None:
    """Draw the figures of ``--plot-simulated-data`` and ``--plot-experimental-data``."""
    from homodyne_fit.cli import drawings

    drawn, plots = [], folder / PLOTS
    simulated = drawings.simulated_data(config, args) if args.plot_simulated_data else None
    measured = config.load_data(selection) if args.plot_experimental_data else None
    make_folder(plots)
    if simulated is not None:
        drawn += drawings.draw_simulated_data(simulated, plots)
    if measured is not None:
        drawn += drawings.draw_experimental_data(measured, plots)
    for file in drawn:
        console.print(f"wrote {file}", markup=False)
