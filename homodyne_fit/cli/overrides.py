"""Options that set keys of a configuration.

The keys are set before the validation, so that wrong values are reported like those in the file.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import yaml

from homodyne_fit.cli.options import FOREIGN, INITIAL
from homodyne_fit.config.overrides import Override, parse_override
from homodyne_fit.errors import InputError, missing_file

# Keys of optimization.mcmc, and the options that set them.
SAMPLING_KEYS = {
    "num_samples": "n_samples",
    "num_warmup": "n_warmup",
    "num_chains": "n_chains",
    "shards": "cmc_num_shards",
}

__all__ = ["overrides_of", "warn_of_foreign_options"]


# Largest distance of an angle in the file from the wanted one, degrees.
SAME_ANGLE = 0.5


def overrides_of(args: argparse.Namespace) -> list[Override]:
    """The keys that the options set; ``--set`` is the last one, and has priority."""
    assignments = [parse_override(text) for text in args.set]
    paths = [path for path, _ in assignments]
    for path in paths:
        if paths.count(path) > 1:
            raise InputError(f"--set {path} is given more than once")
    return [*_from_own_options(args), *assignments]


def _from_own_options(args: argparse.Namespace) -> Iterator[Override]:
    """The keys that have options of their own."""
    if args.analysis_mode is not None:
        yield "analysis_mode", args.analysis_mode
    for key, text in (
        ("optimization.nlsq.threads", args.threads),
        ("optimization.nlsq.memory", args.memory),
        ("optimization.nlsq.max_iterations", args.max_iterations),
        *(
            (f"initial_parameters.values.{name}", getattr(args, f"initial_{name}"))
            for name, _ in INITIAL.values()
        ),
    ):
        if text is not None:
            yield key, yaml.safe_load(text)
    for text in args.fixed:
        name, equals, value = text.partition("=")
        if not (equals and name.strip()):
            raise InputError(f"--fixed {text}: write it as NAME=VALUE")
        yield f"initial_parameters.fixed_parameters.{name.strip()}", _value("--fixed", text, value)
    if args.phi is not None:
        yield from _ranges_of(args.phi)
    if args.no_multistart or args.multistart is not None:
        yield "optimization.nlsq.multi_start.enable", not args.no_multistart
    if args.multistart:
        starts = _value("--multistart", args.multistart, args.multistart)
        yield "optimization.nlsq.multi_start.n_starts", starts
    if getattr(args, "method", None) is not None:
        yield "optimization.method", args.method
    for key, name in SAMPLING_KEYS.items():
        if (text := getattr(args, name, None)) is not None:
            yield f"optimization.mcmc.{key}", yaml.safe_load(text)
    if args.scratch is not None:
        yield "optimization.nlsq.scratch", args.scratch
    data_file: Path | None = getattr(args, "data_file", None)
    if data_file is not None:
        if not data_file.exists():
            raise missing_file(data_file)
        yield "experimental_data.file_path", str(data_file.absolute())


def _value(option: str, text: str, value: str) -> object:
    """The value of an option, which is YAML as in a configuration."""
    try:
        return yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise InputError(f"{option} {text}: the value is not valid YAML") from error


def _ranges_of(texts: list[str]) -> Iterator[Override]:
    """The keys that select single angles, which files give as means over their bins."""
    ranges = []
    for text in " ".join(texts).replace(",", " ").split():
        try:
            angle = float(text)
        except ValueError:
            raise InputError(f"--phi {text}: a number is needed, in degrees") from None
        ranges.append({"min_angle": angle - SAME_ANGLE, "max_angle": angle + SAME_ANGLE})
    yield "phi_filtering.enabled", True
    yield "phi_filtering.target_ranges", ranges
    yield "preprocessing.phi_range", None


def warn_of_foreign_options(args: argparse.Namespace) -> None:
    """Print a warning for each option of homodyne that has no effect here."""
    for option, (_, reason) in FOREIGN.items():
        if getattr(args, option) is not None:
            print(f"homodyne_fit: warning: {option} has no effect: {reason}", file=sys.stderr)
