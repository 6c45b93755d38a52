"""The summary on the terminal: one screen of 80 columns that says what may be quoted."""

import io
import re
import sys
from dataclasses import replace

import numpy as np
import pytest
from rich.cells import cell_len
from rich.console import Console

import homodyne_fit as hf
from homodyne_fit.cli.console import new_console
from homodyne_fit.report.numbers import format_estimate
from homodyne_fit.report.summary import print_summary
from homodyne_fit.report.verdict import QuoteRow


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


HEADLINE = "The fit converged, but the model does not describe the data."

# Codes of colours, unlike that of bold type.
COLOUR = re.compile("\x1b\\[[\\d;]*3\\d")


def test_a_terminal_has_colours(printed):
    text = printed(Terminal())
    assert text.startswith(f"\x1b[1;31m{HEADLINE}\x1b[0m\n")
    assert COLOUR.search(text)


def test_unless_no_color_is_set(printed):
    text = printed(Terminal(), NO_COLOR="1")
    assert HEADLINE in text
    assert not COLOUR.search(text)


def test_a_pipe_has_none(printed):
    assert "\x1b" not in printed(io.StringIO())


def screen(result, width=80, *, whole=False):
    """Lines of the summary on a console of so many columns."""
    file = io.StringIO()
    console = Console(file=file, width=width, soft_wrap=True, highlight=False)
    print_summary(console, result, whole=whole)
    return file.getvalue().splitlines()


@pytest.fixture(scope="module")
def aged(measure):
    """Flow of which the data determine everything but the constant parts."""
    m = measure((1200.0, -0.4, 0.0, 4e-4, 0.25, 0.0, 3.0), noise=0.005)
    return hf.fit(m.data, gap=m.gap, per_angle_mode="individual")


@pytest.mark.parametrize("width", [60, 80, 200])
@pytest.mark.parametrize("which", ["sheared", "aged"])
def test_fits_into_a_screen(which, width, request):
    lines = screen(request.getfixturevalue(which), width)
    assert max(map(cell_len, lines)) <= min(width, 80)
    assert width < 80 or len(lines) <= 37


def test_rates_are_quoted_at_stated_times(aged):
    lines = screen(aged)
    head = next(line for line in lines if line.startswith(" " * 10) and "at " in line)
    assert head.split() == ["at", "1", "s", "at", "5", "s", "at", "10", "s"], "no room for means"
    (row,) = (line for line in lines if line.startswith("J (Å²/s)"))
    times = np.array([1.0, 5.0, 10.0])
    pairs = zip(*aged.J(times), strict=True)
    expected = [format_estimate(*pair) for pair in pairs]
    assert re.split(r" {2,}", row)[1:] == expected
    (direction,) = (line for line in lines if line.startswith("phi0 "))
    phi0 = aged.parameters["phi0"]
    assert format_estimate(phi0.value, phi0.stderr) in direction


def test_a_power_of_ten_is_said_once():
    row = QuoteRow("γ̇", "1/s", ((3.981e-4, 3.4e-6), (5.31e-4, 2e-6), (1e-9, np.inf), None))
    scaled = row.in_power_of_ten()
    assert scaled.unit == "10⁻⁴ 1/s"
    assert scaled.texts == ("3.981 ± 0.034", "5.310 ± 0.020", "not determined", "")
    plain = QuoteRow("J", "Å²/s", ((4870.0, 270.0),))
    assert plain.in_power_of_ten() is plain


def test_warnings_that_have_no_room_are_counted(aged):
    many = replace(aged, uncertainty=replace(aged.uncertainty, notes=("it is so",) * 60))
    lines = screen(many)
    assert len(lines) <= 37
    said = sum(line.startswith("warning: It is so.") for line in lines)
    assert said >= 1
    assert f"and {60 - said} more warnings, which the report has" in lines
    assert sum(line.startswith("warning: It is so.") for line in screen(many, whole=True)) == 60


def test_all_of_it_has_the_parameters_one_by_one(aged):
    lines = screen(aged, whole=True)
    for name, estimate in aged.parameters.items():
        shown = format_estimate(estimate.value, estimate.stderr)
        assert any(re.match(rf"{name} +{re.escape(shown)}", line) for line in lines)
    assert any(line.startswith("error bars: ") for line in lines)


def test_a_fit_that_did_not_converge_quotes_nothing(aged):
    info = replace(aged.info, success=False, message="stopped in pass 2 over the points")
    lines = screen(replace(aged, info=info))
    assert lines[0] == "The fit did not converge. Do not use its numbers."
    assert "Stopped in pass 2 over the points. The values below" in " ".join(lines)
    assert not any("mean" in line for line in lines)
    assert sum("did not converge" in line for line in lines) == 1
