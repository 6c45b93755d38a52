"""What is told of a fit while it runs: on a terminal, as lines, in a log file."""

import io
import itertools
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

import homodyne_fit as hf
from homodyne_fit.cli import progress as shown
from homodyne_fit.cli.progress import Clock, clock_time, lines, shown_on
from homodyne_fit.progress import Step, StopFit

PASS = Step("all points", "chunk", 12, 40, passes=3.3, cost=0.00123456789)


@pytest.fixture(autouse=True)
def _lines_of_progress(monkeypatch):
    monkeypatch.setattr(shown, "LEAST_PAUSE", 2.0)


class Time:
    """A clock that a test sets."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def at():
    return Time()


@pytest.mark.parametrize(
    ("step", "text"),
    [
        (Step("compiling the model"), "compiling the model"),
        (Step("reading", "matrix", 3, 23), "reading, 3 of 23 matrices"),
        (Step("global search", "evaluation", 1), "global search, 1 evaluation"),
        (Step("global search", "evaluation", 92), "global search, 92 evaluations"),
        (PASS, "all points, pass 4, 12 of 40 chunks, cost per point 0.0012346"),
    ],
)
def test_a_step_in_words(step, text):
    assert str(step) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.9, "0:00"), (31, "0:31"), (725, "12:05"), (3725, "1:02:05")]
)
def test_times(seconds, text):
    assert clock_time(seconds) == text


class TestTimeLeft:
    def test_of_what_is_counted(self, at):
        clock = Clock(at)
        for done in range(4):
            clock.note(Step("reading", "matrix", done, 10))
            at.now += 5
        # 4 s of the fifth matrix have passed.
        at.now -= 1
        assert clock.text() == "0:19 reading, 3 of 10 matrices (31 s left)"

    def test_begins_anew_with_every_pass(self, at):
        clock = Clock(at)
        for done in (1, 2, 1, 2):
            clock.note(Step("all points", "chunk", done, 60))
            at.now += 2
        assert "(1:54 left)" in clock.text()

    def test_is_not_invented(self, at):
        clock = Clock(at)
        clock.note(Step("reading", "matrix", 5, 10))
        at.now += 5
        assert "left" not in clock.text()
        clock.note(Step("global search", "evaluation", 6))
        at.now += 5
        clock.note(Step("global search", "evaluation", 7))
        assert "left" not in clock.text()


class TestLines:
    @given(st.lists(st.tuples(st.floats(0.0, 100.0), st.sampled_from("abc")), max_size=80))
    def test_are_neither_too_many_nor_too_few(self, steps):
        at, written = Time(), []
        write = lines(lambda text: written.append((at.now - 100.0, text)), Clock(at), since=0.0)
        for pause, stage in steps:
            at.now += pause
            write(Step(stage))
        times = [0.0, *(time for time, _ in written)]
        for before, time in itertools.pairwise(times):
            assert time - before >= max(shown.LEAST_PAUSE, shown.LEAST_SHARE * time) - 1e-9
        told = np.cumsum([100.0, *(pause for pause, _ in steps)]) - 100.0
        for time in told[1:]:
            last = max((t for t in times if t <= time), default=0.0)
            pause = max(shown.PERIOD, shown.LEAST_SHARE * time)
            assert time - last < pause, "a line was due"

    def test_name_a_new_stage(self, at):
        written = []
        write = lines(written.append, Clock(at), since=0.0)
        for stage in ("reading", "reading", "compiling the model"):
            at.now += 3
            write(Step(stage))
        assert written == ["0:03 reading", "0:09 compiling the model"]


class Terminal(io.StringIO):
    def isatty(self):
        return True


class TestShown:
    def show(self, file, at, **given):
        console = Console(file=file, width=40, soft_wrap=True, **given)
        with shown_on(console, Clock(at)) as show:
            for k in range(3):
                at.now += 12
                show(Step("reading", "matrix", k, 3))
        return file.getvalue()

    def test_on_a_terminal_as_one_line_that_goes(self, at):
        text = self.show(Terminal(), at, force_terminal=True)
        assert "0:36 reading, 2 of 3 matrices (12 s l" in text
        # The cursor is hidden, and comes back; the line is erased.
        assert text.startswith("\x1b[?25l")
        assert "\x1b[?25h" in text
        assert text.endswith("\x1b[2K")

    def test_elsewhere_as_lines_without_codes(self, at):
        assert self.show(io.StringIO(), at) == (
            "0:12 reading, 0 of 3 matrices\n"
            "0:24 reading, 1 of 3 matrices (24 s left)\n"
            "0:36 reading, 2 of 3 matrices (12 s left)\n"
        )

    @pytest.mark.parametrize("variable", ["FORCE_COLOR", "TTY_COMPATIBLE"])
    def test_in_a_pipe_that_is_to_have_colours_as_lines(self, at, monkeypatch, variable):
        monkeypatch.setenv(variable, "1")
        assert "\x1b[?25l" not in self.show(io.StringIO(), at)

    def test_on_a_simple_terminal_as_lines(self, at, monkeypatch):
        monkeypatch.setenv("TERM", "dumb")
        assert "\x1b" not in self.show(Terminal(), at)

    def test_quietly_not_at_all(self, at):
        assert self.show(io.StringIO(), at, quiet=True) == ""


@pytest.fixture(scope="module")
def data(measure):
    return measure(n=60, noise=0.01).data


class TestStopping:
    def stopped(self, data, when, **given):
        """A fit that is stopped at the first step of which `when` holds."""
        seen = []

        def listen(step):
            seen.append(step)
            if when(step):
                raise StopFit

        return hf.fit(data, gap=2e6, progress=listen, **given), seen

    @pytest.mark.parametrize("mode", ["auto", "individual", "hierarchical"])
    def test_returns_the_best_values_so_far(self, data, mode):
        full = hf.fit(data, gap=2e6, per_angle_mode=mode)
        result, _ = self.stopped(
            data, lambda step: step.can_stop and step.passes >= 1, per_angle_mode=mode
        )
        assert not result.success
        assert re.match(r"stopped in pass \d+ over the points", result.info.message)
        assert result.cost >= full.cost * (1 - 1e-9)
        assert all(not np.isfinite(e.stderr) or e.fixed for e in result.parameters.values())
        assert result.adequacy.adequate is None
        assert any(
            "did not converge" in text for text in result.to_json()["identifiability"]["warnings"]
        )

    def test_has_nothing_to_return_before_all_points_are_evaluated(self, data):
        with pytest.raises(StopFit):
            self.stopped(data, lambda step: step.stage == "global search")

    def test_says_so(self, data):
        _, seen = self.stopped(data, lambda step: False)
        first = next(i for i, step in enumerate(seen) if step.can_stop)
        assert seen[first].stage == "all points"
        assert not any(step.can_stop for step in seen[:first])
