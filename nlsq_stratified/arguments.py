"""The arguments of NLSQ that a fit with chunks takes, and the values that they may have."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import nlsq
import numpy as np
from numpy.typing import ArrayLike, NDArray

from nlsq_stratified.chunk_data import real_numbers
from nlsq_stratified.objectives.loss import LOSSES

__all__ = [
    "INSIDE",
    "accepted",
    "box",
    "check_executor",
    "check_loss",
    "check_method",
    "not_negative",
    "parameter_names",
    "plain_numbers",
    "positive",
    "scales",
    "suggestion",
    "whole_number",
]

# Arguments that control NLSQ's own algorithms, with the values that need no warning.
WITHOUT_EFFECT: dict[str, tuple[Any, ...]] = {
    "auto_size_detection": (True,),
    "batch_size": (None,),
    "bounds_safety_factor": (10.0,),
    "cache_config": (None,),
    "diagnostics_config": (None,),
    "diagnostics_level": (None,),
    "diff_step": (None,),
    "fallback": (False,),
    "fallback_verbose": (False,),
    "flength": (None,),
    "jac_sparsity": (None,),
    "jacobian_mode": (None, "auto"),
    "max_fallback_attempts": (10,),
    "max_jacobian_elements_for_svd": (10_000_000,),
    "rescale_data": (True,),
    "size_threshold": (1_000_000,),
    "solver": (None, "auto"),
    "stability": (None, False),
    "timeit": (False,),
    "tr_options": (None, {}),
    "tr_solver": (None,),
    "use_dynamic_sizing": (False,),
    "verbose": (0, 1),
}

# Arguments that are refused: the one value that is accepted, and what to use instead.
REFUSED: dict[str, tuple[Any, str]] = {
    "auto_bounds": (False, "give bounds"),
    "cmaes_config": (None, "multistart=True tries several starts"),
    "compute_diagnostics": (False, "nlsq.curve_fit makes that report"),
    "data_mask": (None, "mask ydata, as an array of numpy.ma, where points are to be left out"),
    "group": (None, "Chunks.by_group(group) cuts by it, and a column of x shows it to the model"),
    "groups": (None, "Chunks.by_group(groups) cuts by them, a column of x shows them to the model"),
    "return_eval": (False, "the result has predictions"),
}

# Similarity of names, from 0 to 1, above which one is taken for a misspelling of the other.
SIMILAR = 0.75

# Folders whose frames are skipped, so that a warning points to the caller's line.
INSIDE = tuple(str(Path(file).parent) for file in (__file__, nlsq.__file__))


def accepted(
    arguments: Mapping[str, Any], known: Iterable[str], others_known: Iterable[str] = ()
) -> dict[str, Any]:
    """The keyword arguments with known names; one warning names arguments without effect.

    All other arguments raise a `TypeError`, which suggests a name of `known` or `others_known`.
    """
    others = dict(arguments)
    if "maxfev" in others and "max_nfev" not in others:
        others["max_nfev"] = others.pop("maxfev")
    elif "maxfev" in others:
        raise TypeError("maxfev and max_nfev are two names of one argument: give one")
    used = {name: others.pop(name) for name in known if name in others}
    possible = {*known, *others_known, *WITHOUT_EFFECT}
    ignored, unsupported = [], []
    for name, value in others.items():
        if name in WITHOUT_EFFECT:
            if not _one_of(value, WITHOUT_EFFECT[name]):
                ignored.append(name)
        elif name not in REFUSED:
            unsupported.append(name + suggestion(name, possible))
        elif not _one_of(value, REFUSED[name][:1]):
            unsupported.append(f"{name} ({REFUSED[name][1]})")
    if unsupported:
        raise TypeError(f"not supported together with chunks: {', '.join(sorted(unsupported))}")
    if ignored:
        warnings.warn(
            f"without effect together with chunks: {', '.join(sorted(ignored))}",
            UserWarning,
            skip_file_prefixes=INSIDE,
        )
    return used


def suggestion(name: str, known: Iterable[str]) -> str:
    """The known name that a misspelt name is like, in brackets; empty if there is none."""
    near = get_close_matches(name, sorted(known), 1, SIMILAR)
    return f" (did you mean {near[0]}?)" if near else ""


def _one_of(value: Any, defaults: tuple[Any, ...]) -> bool:
    return any(value is each or (type(value) is type(each) and value == each) for each in defaults)


def check_method(method: object) -> None:
    """Raise a `TypeError` for a method that NLSQ does not have, and for its global search."""
    if method not in (None, "trf", "lm"):
        raise TypeError(
            f"method {method!r} is not supported together with chunks: there is one method, which "
            "'trf', 'lm' and None stand for, and multistart=True tries several starts"
        )


def check_executor(executor: Any) -> None:
    """Raise a `TypeError` for anything that is no executor."""
    if executor is None or (hasattr(executor, "submit") and not isinstance(executor, type)):
        return
    count = isinstance(executor, int) and not isinstance(executor, bool)
    example = f", such as ThreadPoolExecutor({executor})" if count else ""
    raise TypeError(f"executor must be a concurrent.futures.Executor{example}, not {executor!r}")


def check_loss(loss: object) -> None:
    """Raise a `ValueError` for an unknown loss function."""
    if not isinstance(loss, str) or loss not in LOSSES:
        raise ValueError(f"loss must be one of {', '.join(LOSSES)}, not {loss!r}")


def positive(name: str, value: Any) -> float:
    """Check that an argument is a number above zero."""
    return _number(name, value, "a positive finite number", lambda number: number > 0)


def not_negative(name: str, value: Any) -> float:
    """Check that an argument is a number of zero or more."""
    return _number(name, value, "a finite number of at least 0", lambda number: number >= 0)


def whole_number(name: str, value: Any, least: int) -> int:
    """Check that an argument is a whole number of at least `least`."""

    def allowed(number: Any) -> bool:
        return number >= least and number == int(number)

    return int(_number(name, value, f"a whole number of at least {least}", allowed))


def _number(name: str, value: Any, kind: str, allowed: Any) -> float:
    array = np.asarray(value)
    if array.ndim or array.dtype.kind not in "iuf" or not np.isfinite(array) or not allowed(array):
        raise ValueError(f"{name} must be {kind}, not {value!r}")
    return float(array)


def plain_numbers(name: str, values: ArrayLike) -> NDArray[np.float64]:
    """Real numbers as an array; masked values are refused."""
    array = real_numbers(name, values)
    if np.ma.is_masked(array):
        raise ValueError(f"{name} holds masked values: numbers are needed")
    return np.asarray(array, np.float64)


def scales(x_scale: ArrayLike | None, n_params: int) -> NDArray[np.float64] | None:
    """Sizes (p,) of the parameters; None if they follow from the curvature, as with 'jac'."""
    if x_scale is None or (isinstance(x_scale, str) and x_scale == "jac"):
        return None
    if isinstance(x_scale, str):
        raise ValueError(f"x_scale must be numbers or 'jac', not {x_scale!r}")
    sizes = plain_numbers("x_scale", x_scale)
    if sizes.shape not in ((), (1,), (n_params,)):
        raise ValueError(
            f"x_scale must be one number or one for each of {n_params} parameters, "
            f"got shape {sizes.shape}"
        )
    if not np.all(np.isfinite(sizes) & (sizes > 0)):
        raise ValueError(f"every x_scale must be a positive finite number, not {x_scale!r}")
    return np.broadcast_to(sizes, (n_params,))


def box(bounds: Any, names: Sequence[str]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lower and upper bounds, (p,) each; None stands for no bound."""
    if bounds is None:
        bounds = (None, None)
    elif hasattr(bounds, "lb") and hasattr(bounds, "ub"):
        bounds = (bounds.lb, bounds.ub)  # scipy.optimize.Bounds
    if not hasattr(bounds, "__len__") or len(bounds) != 2:
        pairs = hasattr(bounds, "__len__") and len(bounds) == len(names)
        advice = ": for a pair for each parameter, pass tuple(zip(*bounds))" if pairs else ""
        raise ValueError(f"bounds must be a pair (lower, upper), not {bounds!r}{advice}")
    lower, upper = (
        _bound(which, values, no_bound, names)
        for which, values, no_bound in zip(
            ("lower", "upper"), bounds, (-np.inf, np.inf), strict=True
        )
    )
    if np.any(np.isnan(lower) | np.isnan(upper)):
        raise ValueError(f"a bound is not a number: {bounds!r}")
    return lower, upper


def _bound(which: str, values: Any, no_bound: float, names: Sequence[str]) -> NDArray[np.float64]:
    """The lower or the upper bounds (p,)."""
    if values is None:
        values = no_bound
    elif isinstance(values, Sequence | np.ndarray) and np.ndim(values) == 1:
        values = [no_bound if value is None else value for value in values]
    numbers = plain_numbers("bounds", values)
    if numbers.shape not in ((), (1,), (len(names),)):
        raise ValueError(
            f"the {which} bounds have shape {numbers.shape}: one number is needed, or one for each "
            f"of {len(names)} parameters, {', '.join(names)}"
        )
    return np.broadcast_to(numbers, (len(names),))


def parameter_names(f: Callable[..., Any], p0: ArrayLike | None) -> list[str]:
    """Names of the parameters of ``f(x, ...)``; numbered where f takes ``*params``.

    Raises
    ------
    ValueError
        If f takes any number of parameters and p0 does not say how many, or p0 has more or fewer
        values than f takes.
    """
    n_start = None if p0 is None else len(np.atleast_1d(np.asarray(p0)))
    parameters = inspect.signature(f).parameters.values()
    named = [p for p in parameters if p.kind is not p.KEYWORD_ONLY][1:]
    if any(p.kind is p.VAR_POSITIONAL for p in named):
        if n_start is None:
            raise ValueError("p0 is needed: the model takes any number of parameters")
        return [f"p[{i}]" for i in range(n_start)]
    names = [p.name for p in named]
    if n_start is None:
        return names
    if not sum(p.default is p.empty for p in named) <= n_start <= len(names):
        raise ValueError(
            f"p0 has {n_start} values, and the model has {len(names)} parameters: "
            f"{', '.join(names)}"
        )
    return names[:n_start]
