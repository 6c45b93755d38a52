"""Print the code that makes a shell complete commands and options."""

from __future__ import annotations

import argparse

SHELLS = {
    "bash": 'eval "$(homodyne_fit completion bash)" in ~/.bashrc',
    "zsh": 'eval "$(homodyne_fit completion zsh)" in ~/.zshrc, after compinit',
    "fish": "homodyne_fit completion fish > ~/.config/fish/completions/homodyne_fit.fish",
}
NAMES = ("homodyne_fit", "homodyne-fit")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument(
        "shell", choices=SHELLS, metavar=f"{{{','.join(SHELLS)}}}", help="; ".join(SHELLS.values())
    )


def run(args: argparse.Namespace) -> int:
    """Print the code of one shell."""
    from argcomplete.shell_integration import shellcode

    print(shellcode(NAMES, shell=args.shell))
    return 0
