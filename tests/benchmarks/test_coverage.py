"""What is measured, judged and counted: by hand, and in one small measurement."""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from homodyne_fit.fitting.default_bounds import default_bounds
from homodyne_fit.model.rates import curves


@pytest.fixture(scope="module")
def coverage():
    """Under another name: the package that measures the coverage of tests is called so, too."""
    path = Path(__file__).parents[2] / "benchmarks" / "coverage.py"
    spec = importlib.util.spec_from_file_location("coverage_of_error_bars", path)
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, spec.name, module)  # where its dataclasses look for it
        spec.loader.exec_module(module)
        yield module


def test_cells_decay_as_far_as_they_say(coverage):
    for cell in coverage.CELLS.values():
        m = coverage.measurement(cell)
        found = curves(m.model, m.vector, m.dt, m.n_frames)
        assert m.q**2 * found.transport[-1] == pytest.approx(cell.decay)
        assert 0.5 * m.q * m.gap * found.shear[-1] == pytest.approx(cell.phase or 0)
        assert len(m.phi) == cell.angles
        bounds = default_bounds(m.q, m.dt, m.n_frames, m.gap)
        for name, value in m.parameters.items():
            assert bounds[name][0] < value < bounds[name][1]


def row(truth=10.0, value=11.0, error=0.5, **entries):
    return {
        "cell": "slow",
        "photons": 0.5,
        "errors": "white",
        "success": True,
        "estimates": {"J": [truth, value, error]},
        "seconds": 1.0,
    } | entries


def test_what_is_judged(coverage):
    rows = [
        *[row(), row(value=8.5, error=2.9), row(), row()],
        row(error=4.0),
        row(error=0.0),
        row(error=None),
        row(success=False),
        row(estimates={}),
        {"cell": "slow", "photons": 0.5, "errors": "white", "exception": "ValueError: no"},
    ]
    assert coverage.pulls(rows, "J") == pytest.approx([2.0, -1.5 / 2.9, 2.0, 2.0, 0.25])
    assert coverage.pulls(rows, "phi0") == []


def test_a_cell_is_judged_by_its_median_error(coverage):
    """Of a rate and its error alike, the fits with small errors are the low ones."""
    values = 10.0 * np.random.default_rng(0).lognormal(0.0, 0.3, 1000)
    rows = [row(value=value, error=0.29 * value) for value in values]
    assert len(coverage.pulls(rows, "J")) == 1000
    wide = [row(value=value, error=0.31 * value, cell="fast") for value in values]
    assert coverage.pulls(wide, "J") == []
    assert coverage.pulls(rows + wide, "J") == coverage.pulls(rows, "J")


def test_shares_and_goals(coverage):
    found = coverage.Coverage.of([0.5, -1.5, 3.0, 1.0])
    assert (found.judged, found.within, found.median) == (4, (0.5, 0.75), 1.25)
    assert found.rms == pytest.approx(np.sqrt(12.5 / 4))
    assert found.missed() == ["68 %", "95 %", "rms"]
    normal = np.random.default_rng(0).normal(size=10_000).tolist()
    assert coverage.Coverage.of(normal).missed() == []
    assert coverage.Coverage.of([]) is None


def test_tables_of_rows_read_back(coverage, capsys):
    raised = {**row(), "exception": "ValueError: no"}
    del raised["estimates"], raised["success"]
    rows = [row(), row(success=False), raised, row(cell="fast")]
    coverage.report([json.loads(json.dumps(row)) for row in rows])
    lines = capsys.readouterr().out.splitlines()
    assert "| fast | 0.5 | white | 1 | 0 | 0 | 1: 0/0, 2.00 (2.00) |  |  |  | 1.0 |" in lines
    assert "| slow | 0.5 | white | 3 | 1 | 1 | 1: 0/0, 2.00 (2.00) |  |  |  | 1.0 |" in lines
    assert "1 × ValueError: no" in lines
    assert "| 0.5 | white | all | 2 of 3 | 0 | 0 | 2.00 | 2.00 | 68 %, 95 %, rms |" in lines
    assert "| 0.5 | white | phi0 | 0 of 0 |  |  |  |  |  |" in lines


def test_gains_compare_fits_of_the_same_measurement(coverage, capsys):
    weighting = {"used": True, "p_value": 0.03}
    rows = []
    for number, (plain, weighted) in enumerate([(13.0, 11.0), (6.0, 11.0)]):
        rows.append(row(value=plain, number=number, errors="speckle"))
        more = {"errors": "weighted", "weighting": weighting}
        rows.append(row(value=weighted, number=number, **more))
    rows.append(row(number=2, errors="weighted", weighting=weighting))  # no partner
    rows.append(row(number=3, errors="speckle"))
    rows.append(row(number=3, errors="weighted", weighting={"used": False}))
    coverage.report(rows)
    # Errors of 3 and 4 by least squares, and of 1 twice.
    ratio = 1 / np.sqrt(12.5)
    lines = capsys.readouterr().out.splitlines()
    assert (
        f"| slow | 0.5 | 2 of 3 | {ratio:.2f}, 1.00 (2) |  |  |  | 2: 0/0, 2.00 (2.00) | 100/0 |"
        in lines
    )


def test_a_measurement_is_fitted(coverage, monkeypatch):
    monkeypatch.setattr(coverage, "FRAMES", 40)
    monkeypatch.setattr(coverage, "PIXELS", 500)
    results = []
    fit = coverage.fit

    def fit_and_keep(*given):
        results.append(fit(*given))
        return results[-1]

    monkeypatch.setattr(coverage, "fit", fit_and_keep)
    (found,) = coverage.run(("middle, 3 angles", 5.0, 1), ["white"])
    (result,) = results
    assert found["success"]
    m = coverage.measurement(coverage.CELLS["middle, 3 angles"])
    t = np.maximum(np.arange(40) * 0.1, 0.05)
    p = m.parameters
    mean = np.mean(p["D0"] * t ** p["alpha"] + p["D_offset"])
    assert found["estimates"]["J"] == pytest.approx([mean, *result.mean_J()])
    assert found["estimates"]["phi0"][0] == p["phi0"]
    truth, value, error = found["estimates"]["contrast"]
    assert truth == pytest.approx(1 / 3)
    assert value == pytest.approx(np.mean([e.value for e in result.contrast]))
    own = [name.startswith("contrast[") for name in result.names]
    assert error == pytest.approx(np.sqrt(result.covariance[own][:, own].mean()))
