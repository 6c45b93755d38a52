"""Check a configuration, and show what a fit would do, without running it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from homodyne_fit.cli.fit_options import add_key_options, overrides
from homodyne_fit.cli.option_types import path
from homodyne_fit.cli.output import print_json
from homodyne_fit.errors import InputError

if TYPE_CHECKING:
    from homodyne_fit.overrides import Override
    from homodyne_fit.plan import Plan


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("file", type=path, nargs="?", metavar="CONFIG", help="YAML configuration")
    parser.add_argument(
        "--output-dir", type=path, metavar="DIR", help="where results would go, as for the fit"
    )
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")
    add_key_options(parser.add_argument_group("keys of the configuration"))
    parser.add_argument(
        "--schema", action="store_true", help="print the JSON Schema of configurations, for editors"
    )


def run(args: argparse.Namespace) -> int:
    """Print what would be done, or every mistake; return 0 if there is none, else 1."""
    if args.schema:
        from homodyne_fit.config.json_schema import shipped_schema

        print(shipped_schema(), end="")
        return 0
    if args.file is None:
        raise InputError("check needs a configuration: homodyne_fit check CONFIG")
    return show(args.file, args.output_dir, overrides(args), as_json=args.json)


def show(
    file: Path,
    folder: Path | None,
    given: Sequence[Override],
    *,
    as_json: bool = False,
    quiet: bool = False,
    overwrite: bool | None = None,
) -> int:
    """Print what a fit would do, or every mistake; return 0 if there is none, else 1.

    Parameters
    ----------
    file : Path
        Configuration.
    folder : Path or None
        Where results would go, if that is asked for.
    given : sequence of (str, value)
        Keys that are set, as in `homodyne_fit.config.parse_config`.
    as_json, quiet : bool
        How it is said; nothing but mistakes if quiet.
    overwrite : bool, optional
        If given, whatever keeps results from being written is a mistake: without leave to
        overwrite them, those that are there already, too.
    """
    try:
        plan = _plan(file, folder, given, overwrite=overwrite)
    except InputError as error:
        if not as_json:
            raise
        print_json({"ok": False, "errors": str(error).splitlines()})
        return 1
    if as_json:
        ignored = [each._asdict() for each in plan.config.without_effect]
        described = {"ok": True, "errors": [], **plan.to_json(), "without_effect": ignored}
        print_json(described)
    elif not quiet:
        from homodyne_fit.cli.plan_text import plan_lines

        print("\n".join(plan_lines(plan, overwrite=bool(overwrite))))
    return 0


def _plan(
    file: Path, folder: Path | None, given: Sequence[Override], *, overwrite: bool | None
) -> Plan:
    from homodyne_fit.cli.fit import output_folder
    from homodyne_fit.config.examination import examine
    from homodyne_fit.outputs import require_room
    from homodyne_fit.plan import plan_of

    config, selection = examine(file, given)
    output = output_folder(config, folder)
    if overwrite is not None:
        require_room(output, overwrite=overwrite)
    return plan_of(config, selection, output)
