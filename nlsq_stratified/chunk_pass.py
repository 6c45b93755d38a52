"""A pass over chunks: the normal equations at some parameters, counted and checked."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from nlsq_stratified.arguments import INSIDE
from nlsq_stratified.chunk_data import FirstChunks
from nlsq_stratified.normal_equations import Equations
from nlsq_stratified.progress_bar import ProgressBar
from nlsq_stratified.reduction import ChunkSequence, Objective, Partial, add_up, partial_sums
from nlsq_stratified.solver.trust_region import TrustRegionResult, solve

__all__ = ["Budget", "NotFiniteError", "Pass"]

# Number of different lengths of chunks above which the time to compile is worth a warning.
MOST_LENGTHS = 20


class NotFiniteError(ValueError):
    """The model is not finite at the parameters of a first pass."""


class Budget:
    """Evaluations of all chunks that are left; evaluating some chunks counts by their share."""

    def __init__(self, limit: int, n_chunks: int) -> None:
        self.limit, self.n_chunks, self.spent = limit, n_chunks, 0.0

    def spend(self, n_chunks: int) -> None:
        """Count an evaluation of so many chunks."""
        self.spent += n_chunks / self.n_chunks

    def evaluations_left(self, n_chunks: int) -> int:
        """How often so many chunks may still be evaluated; at least once."""
        return max(1, int((self.limit - self.spent) * self.n_chunks / n_chunks + 1e-9))


@dataclass(eq=False)
class Pass:
    """Evaluates the equations of all its chunks at some parameters."""

    objective: Objective[Any]
    source: ChunkSequence
    # The same chunks, or what stands for them where an executor keeps them.
    data: ChunkSequence
    names: Sequence[str]
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    executor: Executor | None
    bar: ProgressBar
    budget: Budget
    # Costs of the chunks for each evaluation that is still in use; the search keeps the best one.
    chunk_costs: WeakKeyDictionary[Equations, tuple[float, ...]] = field(
        default_factory=WeakKeyDictionary, init=False
    )
    chunk_sizes: tuple[int, ...] = field(default=(), init=False)
    may_be_not_finite: bool = field(default=False, init=False)
    _lengths: set[int] = field(default_factory=set, init=False)
    _first: tuple[NDArray[np.float64], Equations] | None = field(default=None, init=False)

    def first(self, count: int) -> Pass:
        """The same for the first few chunks."""
        return replace(self, data=FirstChunks(self.data, count))  # `source` begins alike

    def with_loss(self, loss: str) -> Pass:
        """The same with another loss function."""
        objective: Any = self.objective
        return replace(self, objective=replace(objective, loss=loss))

    def minimise(
        self, start: NDArray[np.float64], *, max_nfev: float = np.inf, **options: Any
    ) -> TrustRegionResult:
        """Search the minimum with the evaluations that are left, at most `max_nfev`."""
        left = min(max_nfev, self.budget.evaluations_left(len(self.data)))
        return solve(self, start, self.lower, self.upper, max_nfev=int(left), **options)

    def cost(self, params: NDArray[np.float64]) -> float:
        """The cost, infinite where the model is not finite."""
        equations = self(params)
        return equations.cost if equations.finite else np.inf

    def evaluated_first(self, start: NDArray[np.float64]) -> Equations:
        """The equations at the start, which are known if the search began there."""
        if self._first is not None and np.array_equal(self._first[0], start):
            return self._first[1]
        return self(start)

    def __call__(self, params: NDArray[np.float64]) -> Equations:
        """The equations at some parameters."""
        self.bar.start_pass(len(self.data))
        parts = partial_sums(self.objective, params, self.data, self.executor)
        total = add_up(map(self._show_progress, parts))
        _require_sigma_of_all_or_none(total.widths)
        self.chunk_sizes = total.sizes
        equations = self.objective.normal_equations(params, total.sums)
        self.chunk_costs[equations] = total.costs
        if not self.may_be_not_finite and not equations.finite:
            self._raise_not_finite(params, total.finite)
        self.may_be_not_finite = True
        self.bar.pass_done(equations)
        self.budget.spend(len(self.data))
        self._first = self._first or (params.copy(), equations)
        return equations

    def _show_progress(self, part: Partial[Any]) -> Partial[Any]:
        self.bar.chunks_done(len(part.sizes))
        self._count_lengths(part.sizes)
        return part

    def _count_lengths(self, sizes: Sequence[int]) -> None:
        """Warn once if the model has to be compiled for many lengths of chunks."""
        before = len(self._lengths)
        self._lengths.update(sizes)
        padded = getattr(self.objective, "pad", False)
        if before <= MOST_LENGTHS < len(self._lengths) and not padded:
            warnings.warn(
                f"the chunks have more than {MOST_LENGTHS} different lengths, and the model is "
                "compiled for each of them, which takes long: cut chunks of equal length, or, if "
                "the model computes each point by itself, pass preserve_chunks=False",
                UserWarning,
                skip_file_prefixes=INSIDE,
            )

    def _raise_not_finite(self, params: NDArray[np.float64], finite: Sequence[bool]) -> None:
        at = ", ".join(f"{n} = {v:.6g}" for n, v in zip(self.names, params, strict=True))
        where = ""
        if not all(finite):
            index = finite.index(False)
            where = f" in chunk {index}"
            self._raise_for_derivative(params, index, at)
        raise NotFiniteError(f"the model is not finite{where} at {at}")

    def _raise_for_derivative(self, params: NDArray[np.float64], index: int, at: str) -> None:
        """Raise if the model has values at all points of a chunk, but not all derivatives."""
        x, y, *_ = self.source[index]
        values, jacobian = self.objective.curve(params, x, len(y))  # type: ignore[attr-defined]
        lacking = ~np.isfinite(jacobian)
        if not np.all(np.isfinite(values)) or not np.any(lacking):
            return
        point = int(np.argmax(np.any(lacking, axis=1)))
        where = f" (x = {np.asarray(x)[point]:.6g})" if np.ndim(x) == 1 else ""
        raise NotFiniteError(
            f"the model is finite, but its derivatives by the parameters are not, at point {point} "
            f"of chunk {index}{where} and {at}: a root, a power or a norm of 0 has none; leave the "
            "point out, or write the model without it there"
        )


def _require_sigma_of_all_or_none(widths: Sequence[int]) -> None:
    """Require as many arrays, (x, y) or (x, y, sigma), in each chunk as in the first."""
    for i, width in enumerate(widths):
        if width != widths[0]:
            with_one, without = (0, i) if width < widths[0] else (i, 0)
            raise ValueError(
                f"chunk {with_one} has a sigma and chunk {without} has none: "
                "give one for every chunk or for none"
            )
