import io
import sys

import pytest

from homodyne_fit.cli.console import new_console
from homodyne_fit.report.summary import print_summary


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def printed(sheared, monkeypatch):
    """What the summary writes to some standard output, with some environment."""

    def run(stdout, **environment):
        for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE"):
            monkeypatch.delenv(name, raising=False)
        for name, value in {"TERM": "xterm-256color", **environment}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "stdout", stdout)
        print_summary(new_console(quiet=False), sheared)
        return stdout.getvalue()

    return run


def test_a_terminal_has_colours(printed):
    assert printed(Terminal()).startswith("\x1b[32mconverged\x1b[0m: ")


def test_unless_no_color_is_set(printed):
    assert printed(Terminal(), NO_COLOR="1").startswith("converged: ")


def test_a_pipe_has_none(printed):
    assert "\x1b" not in printed(io.StringIO())
