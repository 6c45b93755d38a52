"""Print the code that makes a shell complete commands and options."""

from __future__ import annotations

import argparse

from argcomplete.shell_integration import shellcode

NAMES = ("homodyne_fit", "homodyne-fit")


def run(args: argparse.Namespace) -> int:
    """Print the code of one shell."""
    print(shellcode(NAMES, shell=args.shell))
    return 0
