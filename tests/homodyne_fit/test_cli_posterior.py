"""``--method mcmc``: from a configuration to draws on the disk."""

import contextlib
import io
import json
import re
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.stats
import xarray as xr

import homodyne_fit as hf
from homodyne_fit.cli import main
from homodyne_fit.posterior import extra
from homodyne_fit.results.posterior_files import read_posterior

CONFIG = """
analysis_mode: static
experimental_data: {file_path: s.h5}
initial_parameters:
  values: {D0: 20000, alpha: -0.2}
  fixed_parameters: {D_offset: 0}
parameter_space:
  bounds:
    - {name: D0, min: 1000, max: 1e5, type: TruncatedNormal, prior_mu: 2e4, prior_sigma: 5e3}
optimization:
  nlsq: {threads: 1, multi_start: {enable: false}, anti_degeneracy: {per_angle_mode: averaged}}
  mcmc: {num_samples: 500, num_chains: 2}
"""


def called(*arguments):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main([str(argument) for argument in arguments])
    return SimpleNamespace(status=status, out=out.getvalue(), err=err.getvalue())


@pytest.fixture(scope="module")
def road(tmp_path_factory):
    folder = tmp_path_factory.mktemp("posterior")
    data, config, results = folder / "s.h5", folder / "c.yaml", folder / "c_results"
    options = ("--static", "--phi", "0,60", "--frames", "40", "--parameter", "D0=20000")
    assert called("simulate", "-o", data, *options).status == 0
    config.write_text(CONFIG)
    fitted = called("--config", config, "--method", "mcmc")
    return SimpleNamespace(**locals())


def test_a_fit_and_its_posterior(road):
    assert (road.fitted.status, road.fitted.err) == (0, "")
    assert "posterior converged: 2 × 500 draws by importance sampling" in road.fitted.out
    assert re.search(
        r"results: .*posterior\.nc, posterior\.npz, posterior\.html\)", road.fitted.out
    )


def test_its_numbers_are_those_of_the_draws(road):
    found = json.loads((road.results / "parameters.json").read_text("utf-8"))
    assert found["method"] == "mcmc"
    assert found["posterior"]["success"]
    draws = np.load(road.results / "posterior.npz")
    assert draws["contrast"].shape == (2, 500, 2)
    for name in ("D0", "alpha", "J_mid"):
        each = found["posterior"]["quantities"][name]
        assert each["mean"] == pytest.approx(draws[name].mean())
        assert each["q2.5"] == pytest.approx(np.quantile(draws[name], 0.025))
    assert "D_offset" not in draws
    assert found["config"]["optimization"]["method"] == "mcmc"


def test_arviz_finds_its_groups(road):
    with xr.open_datatree(road.results / "posterior.nc", engine="h5netcdf") as tree:
        posterior = tree["posterior"]
        assert dict(posterior.sizes) == {"chain": 2, "draw": 500, "angle": 2}
        assert posterior["angle"].values.tolist() == [0.0, 60.0]
        assert posterior["D0"].attrs["units"] == "Å²/s"
        assert tree["sample_stats"]["lp"].shape == (2, 500)


def test_its_page_stands_alone(road, tmp_path):
    page = (road.results / "posterior.html").read_text("utf-8")
    assert "The draws have converged." in page
    assert page.count("<svg ") == 2
    assert not re.search(r"<(img|link|script src)|url\(http", page)
    report = (road.results / "report.html").read_text("utf-8")
    assert "posterior converged: 2 × 500 draws" in report
    done = called("report", road.results, "--output-dir", tmp_path)
    assert f"wrote {tmp_path / 'posterior.html'}\n" in done.out
    again = (tmp_path / "posterior.html").read_text("utf-8")
    # Names of clip paths are random.
    ids = re.compile(r'(id="|#)[a-z]?[0-9a-f]{6,}')
    assert len(ids.sub("", again)) == len(ids.sub("", page))


def test_pairs_are_drawn_with_the_ellipse_of_least_squares(road):
    result = hf.load_result(road.results)
    posterior = read_posterior(road.results, result)
    assert posterior is not None
    assert posterior.units["D0"] == posterior.units["J_mid"] == "Å²/s"
    figure = hf.plot_pairs(posterior, result)
    panel = next(a for a in figure.axes if (a.get_xlabel(), a.get_ylabel())[1] == "alpha")
    dots, inner, outer, centre = panel.lines
    np.testing.assert_allclose(dots.get_xdata(), posterior.values["D0"].ravel())
    rows = [result.names.index(name) for name in ("D0", "alpha")]
    precision = np.linalg.inv(result.covariance[np.ix_(rows, rows)])
    best = np.array([result.parameters[name].value for name in ("D0", "alpha")])
    assert (centre.get_xdata()[0], centre.get_ydata()[0]) == tuple(best)
    for line, probability in ((inner, 0.68), (outer, 0.95)):
        away = line.get_xydata() - best
        squared = np.einsum("ni,ij,nj->n", away, precision, away)
        np.testing.assert_allclose(squared, scipy.stats.chi2.ppf(probability, 2), rtol=1e-6)
    trace = hf.plot_trace(posterior).axes[0]
    np.testing.assert_array_equal(trace.lines[0].get_ydata()[0], posterior.values["D0"][0, 0])


def test_a_result_read_back_has_its_summary(road):
    result = hf.load_result(road.results)
    found = json.loads((road.results / "parameters.json").read_text("utf-8"))
    assert result.posterior is not None
    assert result.posterior.to_json() == found["posterior"]
    assert "posterior converged" in repr(result)
    assert "posterior converged" in result._repr_html_()


def test_it_can_start_from_an_earlier_fit(road, tmp_path):
    done = called(
        *("--config", road.config, "--method", "both", "--nlsq-result", road.results),
        *("--output-dir", tmp_path / "again", "--n-samples", "400"),
    )
    assert (done.status, done.err) == (0, "")
    assert f"the fit is that of {road.results}" in done.out
    before, after = (
        json.loads((folder / "parameters.json").read_text("utf-8"))
        for folder in (road.results, tmp_path / "again")
    )
    assert after["parameters"] == before["parameters"]
    assert after["posterior"]["draws"] == 400
    mean, sd = (before["posterior"]["quantities"]["D0"][key] for key in ("mean", "sd"))
    assert abs(after["posterior"]["quantities"]["D0"]["mean"] - mean) < 0.5 * sd


def test_a_posterior_that_did_not_converge_ends_with_2(road, tmp_path):
    """10 draws of a chain cannot be said to agree."""
    done = called(
        *("--config", road.config, "--method", "mcmc", "--nlsq-result", road.results),
        *("--output-dir", tmp_path / "few", "--n-samples", "10", "--quiet"),
    )
    assert done.status == 2
    assert (tmp_path / "few" / "posterior.nc").exists()


def test_least_squares_replaces_the_draws_of_an_earlier_posterior(road, tmp_path):
    folder = tmp_path / "r"
    folder.mkdir()
    for name in ("posterior.nc", "posterior.npz", "posterior.html"):
        (folder / name).write_text("of an earlier fit")
    assert called("--config", road.config, "--output-dir", folder).status == 1
    done = called("--config", road.config, "--output-dir", folder, "--overwrite")
    assert done.status == 0
    assert not list(folder.glob("posterior.*"))


def test_what_is_not_installed_is_named_with_the_command(road, monkeypatch):
    find_spec = extra.find_spec
    monkeypatch.setattr(
        extra, "find_spec", lambda name: None if name == "numpyro" else find_spec(name)
    )
    done = called("--config", road.config, "--method", "mcmc", "--overwrite")
    assert done.status == 1
    assert done.err == (
        "homodyne_fit: error: a posterior needs numpyro, not installed here; pip install numpyro\n"
    )


def test_more_shards_than_angles(road):
    done = called("--config", road.config, "--method", "cmc", "--cmc-num-shards", "3")
    assert done.status == 1
    assert "optimization.mcmc.shards: 3 shards of 2 angles; from 2 to 2 are possible" in done.err


def test_an_earlier_fit_needs_a_posterior(road):
    done = called("--config", road.config, "--nlsq-result", road.results, "--overwrite")
    assert done.err == (
        "homodyne_fit: error: --nlsq-result has an effect only with --method mcmc\n"
    )


@pytest.mark.usefixtures("without_pictures")
@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (KeyboardInterrupt(), 130, "interrupted: in the step '.*'; the fit without it is in {}"),
        (hf.InputError("no draw is within the bounds"), 1, "no draw is within the bounds"),
    ],
)
def test_a_fit_outlives_its_sampling(road, tmp_path, monkeypatch, error, status, said):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr("homodyne_fit.posterior.sampling.sample_posterior", fail)
    folder = tmp_path / "r"
    done = called("--config", road.config, "--method", "mcmc", "--output-dir", folder)
    assert done.status == status
    assert re.fullmatch(f"homodyne_fit: error: {said.format(folder)}\n", done.err)
    assert f"results: {folder}/ (parameters.json, " in done.out
    assert hf.load_result(folder).success
    assert hf.load_result(folder).posterior is None
