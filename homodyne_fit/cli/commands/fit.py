"""Fit the measurement that a configuration describes."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Collection
from concurrent.futures import Executor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from homodyne_fit.cli.cluster import connect
from homodyne_fit.cli.commands import check
from homodyne_fit.cli.console import print_json, reasons
from homodyne_fit.cli.figure_options import figure_files
from homodyne_fit.cli.interrupt import stoppable
from homodyne_fit.cli.overrides import overrides_of, warn_of_foreign_options
from homodyne_fit.cli.reporter import Reporter, reporter_of
from homodyne_fit.config import Config, load_config
from homodyne_fit.config.configuration import examine
from homodyne_fit.data.dataset import TwoTimeData
from homodyne_fit.data.selection import Selection
from homodyne_fit.errors import InputError, counted
from homodyne_fit.kernel.compilation import import_meanwhile, keep_compiled, require_device
from homodyne_fit.posterior.extra import require_extra
from homodyne_fit.progress import Progress, Step
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
    from homodyne_fit.posterior.draws import Posterior
    from homodyne_fit.report.figure_files import FigureFiles


def run(args: argparse.Namespace) -> int:
    """Fit, write the results, print a summary; return 0 if converged, else 2."""
    with reporter_of(args) as reporter:
        return _run(args, reporter)


def _run(args: argparse.Namespace, reporter: Reporter) -> int:
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
    with reporter.progress() as show:
        show(Step("reading the configuration"))
        if args.plot_simulated_data:
            config, selection = load_config(args.config, overrides_of(args)), None
        else:
            # Report mistakes together with those that the data file shows.
            config, selection = examine(args.config, overrides_of(args))
    if args.nlsq_result is not None and not config.root.optimization.samples:
        raise InputError("--nlsq-result has an effect only with --method mcmc")
    plots = figure_files(args)
    folder = args.output_dir or config.output_folder
    if drawn:
        _draw(config, selection, folder, args, reporter)
        if not args.save_plots:
            return 0
    with executor_at(args.scheduler, config.root.optimization.nlsq.threads) as executor:
        analysis = fit_config(
            config,
            Outputs(folder, args.overwrite, args.export, plots),
            reporter,
            selection=selection,
            executor=executor,
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


@dataclass(frozen=True)
class Outputs:
    """What a fit writes, and where."""

    folder: Path
    overwrite: bool = False
    exports: Collection[str] = ()
    plots: FigureFiles | None = None

    def prepare(self, data: TwoTimeData) -> None:
        """Make the folder; an `InputError` says what cannot be written."""
        require_exportable(data, self.exports)
        prepare_folder(
            self.folder,
            overwrite=self.overwrite,
            exports=self.exports,
            plots=self.plots is not None,
        )

    def write(self, analysis: Analysis, reporter: Reporter, posterior: Posterior | None) -> None:
        """Write all files; after an interrupt say which of them are there."""
        folder = self.folder
        try:
            with reporter.progress() as show:
                written = write_outputs(
                    analysis,
                    folder,
                    exports=self.exports,
                    plots=self.plots,
                    posterior=posterior,
                    on_stage=lambda stage: show(Step(stage)),
                )
        except KeyboardInterrupt as stop:
            if (folder / RESULT).exists() and not (folder / REPORT).exists():
                advice = f"'homodyne_fit report {folder}' draws the report"
                raise KeyboardInterrupt(f"the numbers are in {folder}; {advice}") from stop
            if (folder / PARAMETERS_JSON).exists() and not (folder / RESULT).exists():
                raise KeyboardInterrupt(
                    f"{PARAMETERS_JSON} is in {folder}, {RESULT} is not"
                ) from stop
            raise
        reporter.print(f"results: {folder}/ ({', '.join(written)})")


def fit_config(
    config: Config,
    outputs: Outputs,
    reporter: Reporter,
    *,
    selection: Selection | None = None,
    executor: Executor | None = None,
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

    Raises
    ------
    KeyboardInterrupt
        After Ctrl-C; its text says what is written.
    """
    folder = outputs.folder
    with claimed(folder):
        if not outputs.overwrite:
            require_no_results(folder)
        if config.root.optimization.samples:
            require_extra()
        if warn:
            _warn_of_ignored(config, reporter, verbose=verbose)
        with reporter.progress() as show, stoppable(show) as progress:
            try:
                if earlier is None:
                    analysis = _fitted(config, outputs, reporter, selection, executor, progress)
                else:
                    analysis = _loaded(earlier, outputs, reporter)
            except KeyboardInterrupt as stop:
                raise KeyboardInterrupt(
                    f"in the step '{reporter.stage}'; nothing is written"
                ) from stop

        # Imported late: it needs JAX, and mistakes in the data do not wait for that.
        from homodyne_fit.report.summary import print_summary

        # Print the numbers first: to draw many angles takes longer than the fit.
        fit = analysis
        reporter.show(lambda console: print_summary(console, fit, whole=verbose))
        posterior, failure = None, None
        if config.root.optimization.samples and analysis.success and not progress.requested:
            try:
                posterior = _sample(config, analysis, reporter)
            except KeyboardInterrupt:
                failure = KeyboardInterrupt(
                    f"in the step '{reporter.stage}'; the fit without it is in {folder}"
                )
            except Exception as error:  # noqa: BLE001 raised again when the fit is written
                failure = error
            else:
                sampled = _with_sampling(analysis.config, config.to_json())
                analysis = replace(analysis, posterior=posterior.summary, config=sampled)
        outputs.write(analysis, reporter, posterior)
        if progress.requested:
            whose = (
                "the finished fit"
                if analysis.success
                else "the fit as far as it came, not converged,"
            )
            failure = KeyboardInterrupt(f"{whose} is in {folder}")
        if failure is not None:
            raise failure
    return analysis


def _fitted(
    config: Config,
    outputs: Outputs,
    reporter: Reporter,
    selection: Selection | None,
    executor: Executor | None,
    progress: Progress,
) -> Analysis:
    """Load the data and fit them."""
    settings = config.settings()
    # While matrices are read, Python has nothing to do.
    import_meanwhile("homodyne_fit.analysis")
    data = config.load_data(selection, progress)
    outputs.prepare(data)
    progress(Step("starting JAX"))

    # Imported late: mistakes in the data are reported before all of it is loaded.
    from homodyne_fit.analysis import Analysis
    from homodyne_fit.fitting.fit import fit

    require_device()
    keep_compiled()
    import_meanwhile("scipy.optimize")
    import_meanwhile("homodyne_fit.report.html")
    _describe(data, reporter)
    return Analysis.of(fit(data, settings, executor, progress), data, config.to_json())


def _loaded(earlier: Path, outputs: Outputs, reporter: Reporter) -> Analysis:
    """An earlier fit."""
    from homodyne_fit.analysis import load_result

    analysis = load_result(earlier)
    outputs.prepare(analysis.data)
    _describe(analysis.data, reporter)
    reporter.print(f"the fit is that of {earlier}")
    return analysis


def _describe(data: TwoTimeData, reporter: Reporter) -> None:
    """Print what the data are."""
    reporter.print(
        f"{data.source}: {counted(len(data.phi), 'angle')}, {data.n_frames} frames, "
        f"q = {data.q[0]:.4g} Å⁻¹, dt = {data.dt:g} s"
    )
    for note in data.notes:
        reporter.print(f"note: {note}")


def _sample(config: Config, fit: Analysis, reporter: Reporter) -> Posterior:
    """Draw from the posterior and print what the draws say."""
    from homodyne_fit.posterior.sampling import sample_posterior
    from homodyne_fit.report.posterior import print_posterior

    nlsq = config.root.optimization.nlsq
    with reporter.progress() as show:
        posterior = sample_posterior(
            fit.data,
            fit,
            config.posterior_settings(),
            threads=nlsq.threads,
            memory=nlsq.memory,
            progress=lambda step: show(replace(step, stage=f"posterior: {step.stage}")),
        )
    reporter.show(lambda console: print_posterior(console, posterior.summary, fit))
    return posterior


def _with_sampling(fitted: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    """The configuration of a fit, and what another one says of the posterior."""
    of_posterior = {key: config["optimization"][key] for key in ("method", "mcmc")}
    return {
        **fitted,
        "parameter_space": config["parameter_space"],
        "optimization": {**fitted["optimization"], **of_posterior},
    }


def _warn_of_ignored(config: Config, reporter: Reporter, *, verbose: bool) -> None:
    """Say how many keys have no effect; with `verbose` also which, and why."""
    number = len(config.ignored)
    if not number:
        return
    line = f"homodyne_fit: warning: {config.path}: {counted(number, 'key')} without effect"
    if verbose:
        reporter.complain("\n  ".join([f"{line}:", *reasons(config.without_effect)]))
    else:
        where = shlex.quote(str(config.path))
        reporter.complain(f"{line}; -v, or 'homodyne_fit check {where}', lists them")


def _draw(
    config: Config,
    selection: Selection | None,
    folder: Path,
    args: argparse.Namespace,
    reporter: Reporter,
) -> None:
    """Draw the figures of ``--plot-simulated-data`` and ``--plot-experimental-data``."""
    from homodyne_fit.cli import drawings

    drawn, plots = [], folder / PLOTS
    with reporter.progress() as show:
        simulated = drawings.simulated_data(config, args) if args.plot_simulated_data else None
        measured = config.load_data(selection, show) if args.plot_experimental_data else None
        make_folder(plots)
        show(Step("drawing the figures"))
        if simulated is not None:
            drawn += drawings.draw_simulated_data(simulated, plots)
        if measured is not None:
            drawn += drawings.draw_experimental_data(measured, plots)
    for file in drawn:
        reporter.print(f"wrote {file}")
