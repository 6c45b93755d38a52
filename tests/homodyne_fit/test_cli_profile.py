"""The command that draws a profile, from a result alone."""

import csv
import json

import numpy as np
import pytest
import yaml

import homodyne_fit as hf


@pytest.fixture(scope="module")
def folder(called, tmp_path_factory):
    """A fit of the command line to one static matrix."""
    folder = tmp_path_factory.mktemp("profile")
    data = hf.simulate({"D0": 2e4, "alpha": 0.0, "D_offset": 0.0}, phi=[0.0], n_frames=40)
    np.save(folder / "c2.npy", data.c2)
    config = {
        "analysis_mode": "static",
        "experimental_data": {"file_path": "c2.npy", "phi_angles": [0.0]},
        "analyzer_parameters": {"dt": 0.1, "scattering": {"wavevector_q": 0.0054}},
        "optimization": {"nlsq": {"multi_start": {"enable": False}}},
    }
    (folder / "fit.yaml").write_text(yaml.safe_dump(config))
    assert called("--config", folder / "fit.yaml", "--quiet").status == 0
    # The result holds all it takes.
    (folder / "c2.npy").unlink()
    return folder / "fit_results"


def test_picture_table_and_interval(called, folder):
    done = called("profile", folder, "D0", "--points", "5", "--level", "0.6827")
    assert (done.status, done.err) == (0, "")
    estimate = hf.load_result(folder).parameters["D0"]
    line = next(line for line in done.out.splitlines() if line.startswith("68.3 % interval of D0"))
    low, high = (float(x) for x in line.split(": ")[1].split(" Å")[0].split(" to "))
    # Near a minimum the profile is a parabola, and the interval the standard error.
    assert (high - low) / 2 == pytest.approx(estimate.stderr, rel=0.1)
    assert (folder / "profile_D0.png").read_bytes().startswith(b"\x89PNG")
    with (folder / "profile_D0.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [
        *("value", "delta_chi2", "cost", "converged"),
        *("alpha", "D_offset"),
    ]
    assert float(rows[2]["value"]) == pytest.approx(estimate.value)
    assert float(rows[2]["delta_chi2"]) == pytest.approx(0.0, abs=1e-3)
    assert {row["converged"] for row in rows} == {"true"}


def test_values_and_json(called, folder, tmp_path):
    values = "18000,20000,22000"
    picture = tmp_path / "d.pdf"
    done = called("profile", folder, "D0", "--values", values, "--json", "-o", picture)
    found = json.loads(done.out)
    assert found["values"] == [18000, 20000, 22000]
    assert found["interval"].keys() == {"low", "high"}
    assert picture.read_bytes().startswith(b"%PDF")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("D1",), "has no parameter 'D1'"),
        (("D0", "-o", "x.gif"), "x.gif: the end of the name gives the format"),
    ],
)
def test_mistakes(called, folder, arguments, message):
    done = called("profile", folder, *arguments)
    assert done.status == 1
    assert message in done.err
