import os
import subprocess
import sys

import pytest


def completions(line):
    """What a shell is told when TAB is pressed at the end of a line."""
    read, write = os.pipe()
    environment = {
        **os.environ,
        "_ARGCOMPLETE": "1",
        "_ARGCOMPLETE_IFS": "\n",
        "_ARGCOMPLETE_SUPPRESS_SPACE": "1",
        "COMP_LINE": line,
        "COMP_POINT": str(len(line)),
    }
    # The shell listens at 8; what goes wrong is told at 9.
    code = (
        f"import os; os.dup2({write}, 8); os.dup2(2, 9)\nfrom homodyne_fit.cli import main; main()"
    )
    subprocess.run(
        [sys.executable, "-c", code], env=environment, pass_fds=[write], timeout=600, check=True
    )
    os.close(write)
    with os.fdopen(read) as stream:
        return stream.read().splitlines()


@pytest.mark.skipif(os.name != "posix", reason="shells of Unix")
class TestTab:
    def test_commands(self):
        assert completions("homodyne_fit rep") == ["report"]

    def test_options(self):
        assert "--initial-phi0" in completions("homodyne_fit --initial-")
        assert completions("homodyne_fit report x --save") == ["--save-plots"]

    def test_choices(self):
        assert set(completions("homodyne_fit completion ")) >= {"bash", "zsh", "fish"}


@pytest.mark.parametrize(
    ("shell", "mark"),
    [("bash", "complete -o"), ("zsh", "compdef"), ("fish", "complete --command homodyne_fit")],
)
def test_code_for_each_shell(called, shell, mark):
    done = called("completion", shell)
    assert done.status == 0
    assert mark in done.out
    assert "homodyne-fit" in done.out
