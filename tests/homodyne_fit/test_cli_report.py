import re
import subprocess
import sys
from dataclasses import replace

import pytest


def test_the_report_is_the_same_from_result_h5_alone(called, sheared, tmp_path):
    created = "2001-02-03T04:05:06+00:00"
    earlier = replace(sheared, provenance=replace(sheared.provenance, created=created))
    folder = earlier.save(tmp_path / "r")
    before = (folder / "report.html").read_text("utf-8")
    for name in ("report.html", "parameters.json", "parameters.csv"):
        (folder / name).unlink()
    done = called("report", folder)
    assert (done.status, done.out, done.err) == (0, f"wrote {folder / 'report.html'}\n", "")
    after = (folder / "report.html").read_text("utf-8")
    assert "Fitted 2001-02-03 04:05 UTC+0000" in after
    assert after == before


@pytest.mark.usefixtures("without_pictures")
def test_elsewhere_with_figures_and_summary(called, sheared, tmp_path):
    folder = sheared.save(tmp_path / "r")
    options = ("--output-dir", tmp_path / "new", "--save-plots", "--summary")
    done = called("report", folder / "result.h5", *options)
    assert done.status == 0
    assert done.out.startswith("The fit converged, but the model does not describe the data.\n")
    assert {path.name for path in (tmp_path / "new").iterdir()} == {"report.html", "plots"}
    assert f"wrote 13 figures in {tmp_path / 'new' / 'plots'}/\n" in done.out


def test_matplotlib_is_left_alone(sheared, tmp_path):
    folder = sheared.save(tmp_path / "r")
    code = (
        "import sys; from homodyne_fit.cli import main; assert main(['report', sys.argv[1]]) == 0; "
        "assert 'matplotlib' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, folder], check=True)


def test_no_result_is_one_line(called, tmp_path):
    done = called("report", tmp_path)
    assert done.status == 1
    assert re.fullmatch(r"homodyne_fit: error: .*result\.h5: there is no such file; .*\n", done.err)
