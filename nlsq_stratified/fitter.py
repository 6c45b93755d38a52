"""NLSQ's large-data fitter with chunks that are kept as the caller made them."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from logging import Logger
from typing import Any, Literal

from nlsq.result import OptimizeResult
from nlsq.streaming.large_dataset import LargeDatasetFitter
from numpy.typing import ArrayLike

from nlsq_stratified.chunks import Chunks
from nlsq_stratified.curve_fit import fit_with_chunks
from nlsq_stratified.reduction import ChunkSequence

__all__ = ["StratifiedLargeDatasetFitter", "fit_large_dataset"]


class StratifiedLargeDatasetFitter(LargeDatasetFitter):
    """``nlsq.LargeDatasetFitter`` whose `fit` and `fit_with_progress` also take chunks.

    The new arguments are those of `nlsq_stratified.curve_fit_large`. Memory limit and
    multi-start settings are those of the constructor. Without chunks everything is NLSQ's.
    """

    def _fit_implementation(
        self,
        f: Callable[..., Any],
        xdata: Any,
        ydata: Any,
        p0: Any,
        bounds: Any,
        method: str,
        solver: str,
        show_progress: bool,
        *,
        chunks: Chunks | ChunkSequence | int | str | None = None,
        preserve_chunks: bool = True,
        executor: Executor | None = None,
        progressive: bool = False,
        **kwargs: Any,
    ) -> OptimizeResult:
        """Fit with chunks if they are passed, and as NLSQ does if not."""
        if chunks is None:
            if executor is not None or progressive or not preserve_chunks:
                raise TypeError("executor, progressive and preserve_chunks need chunks")
            return super()._fit_implementation(
                f, xdata, ydata, p0, bounds, method, solver, show_progress, **kwargs
            )
        if kwargs.get("full_output"):
            raise TypeError("full_output is not supported by a fitter: its result has all of it")
        options: dict[str, Any] = {
            "multistart": self.multistart,
            "n_starts": self.n_starts,
            "sampler": self.sampler,
            "solver": solver,
            **kwargs,
        }
        result: Any = fit_with_chunks(
            f,
            xdata,
            ydata,
            chunks,
            p0=p0,
            bounds=bounds,
            method=method,
            memory_limit_gb=self.config.memory_limit_gb,
            preserve_chunks=preserve_chunks,
            executor=executor,
            progressive=progressive,
            show_progress=show_progress,
            **options,
        )
        self.logger.info(f"{result.n_chunks} chunks, {result.n_points} points: {result.message}")
        return result


def fit_large_dataset(
    f: Callable[..., Any],
    xdata: ArrayLike | None,
    ydata: ArrayLike | None,
    p0: ArrayLike | None = None,
    memory_limit_gb: float = 8.0,
    show_progress: bool = False,
    logger: Logger | None = None,
    multistart: bool = False,
    n_starts: int = 10,
    sampler: Literal["lhs", "sobol", "halton"] = "lhs",
    **kwargs: Any,
) -> OptimizeResult:
    """NLSQ's convenience function, with the arguments of `StratifiedLargeDatasetFitter`."""
    fitter = StratifiedLargeDatasetFitter(
        memory_limit_gb=memory_limit_gb,
        logger=logger,
        multistart=multistart,
        n_starts=n_starts,
        sampler=sampler,
    )
    fit: Callable[..., OptimizeResult] = fitter.fit_with_progress if show_progress else fitter.fit
    return fit(f, xdata, ydata, p0=p0, **kwargs)
