import dataclasses
import json
import pickle

import h5py
import numpy as np
import pytest
import xarray as xr
import yaml

import homodyne_fit as hf
from homodyne_fit.analysis import Analysis, load_result
from homodyne_fit.errors import InputError
from homodyne_fit.fitting.fitted_matrices import FittedMatrices
from homodyne_fit.model.rates import STATIC
from homodyne_fit.results import result_file
from homodyne_fit.results.result_file import write_result

TIMES = np.array([0.0, 0.1, 1.0, 3.9])
GROUPS = ("/", "parameters", "scaling", "curves", "c2", "state")


@pytest.fixture(scope="module")
def static(measure):
    """Single precision, no flow, one contrast for both angles."""
    m = measure((1500.0, -0.4, 300.0), n=31, phi=(0.0, 90.0))
    data = dataclasses.replace(m.data, c2=m.data.c2.astype(np.float32), notes=("a note", "b"))
    return hf.fit(data, "static", per_angle_mode="averaged", multi_start=False)


@pytest.fixture(scope="module")
def undetermined(sheared):
    """As if the data knew nothing of the shear rate."""
    lost = np.isin(sheared.names, ["gamma_dot_t0"])
    null = np.eye(len(sheared.coordinates))[:, [2]]
    estimate = dataclasses.replace(sheared.parameters["gamma_dot_t0"], stderr=np.inf)
    return dataclasses.replace(
        sheared,
        parameters={**sheared.parameters, "gamma_dot_t0": estimate},
        undetermined=lost,
        coordinates_null=null,
        condition_number=np.inf,
    )


@pytest.fixture(scope="module", params=["sheared", "static", "undetermined"])
def pair(request, tmp_path_factory):
    """An analysis, and what is read back of it."""
    saved = request.getfixturevalue(request.param)
    path = tmp_path_factory.mktemp("results") / "result.h5"
    write_result(path, saved)
    return saved, load_result(path)


def same(a, b):
    """Equal, whatever they are made of; NaN equals NaN."""
    if dataclasses.is_dataclass(a):
        assert type(a) is type(b)
        for field in dataclasses.fields(a):
            if field.name != "read_data":
                same(getattr(a, field.name), getattr(b, field.name))
    elif isinstance(a, dict):
        assert list(a) == list(b)
        for key in a:
            same(a[key], b[key])
    elif isinstance(a, list | tuple):
        assert type(a) is type(b)
        assert len(a) == len(b)
        for one, other in zip(a, b, strict=True):
            same(one, other)
    elif isinstance(a, np.ndarray):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)
    else:
        assert a == b or (a != a and b != b)


class TestRoundTrip:
    def test_every_field_is_what_it_was(self, pair):
        same(*pair)

    def test_so_are_curves_and_bands(self, pair):
        saved, loaded = pair
        for one, other in ((saved.J, loaded.J), (saved.gamma_dot, loaded.gamma_dot)):
            for before, after in zip(one(TIMES), other(TIMES), strict=True):
                np.testing.assert_array_equal(before, after)
        assert saved.mean_J() == loaded.mean_J()
        np.testing.assert_array_equal(saved.covariance, loaded.covariance)
        assert saved.warnings == loaded.warnings
        assert saved.to_json() == loaded.to_json()
        assert repr(saved) == repr(loaded)

    def test_so_are_the_points_that_were_fitted(self, pair):
        saved, loaded = pair
        upper = np.triu_indices(saved.data.n_frames, 1)
        assert loaded.data.c2.dtype == saved.data.c2.dtype
        for k in range(saved.data.n_angles):
            np.testing.assert_array_equal(saved.data.c2[k][upper], loaded.data.c2[k][upper])
            np.testing.assert_array_equal(saved.c2(k), loaded.c2(k))
        for name in ("phi", "q", "times"):
            np.testing.assert_array_equal(getattr(saved.data, name), getattr(loaded.data, name))
        assert (saved.data.source, saved.data.notes) == (loaded.data.source, loaded.data.notes)

    def test_saving_what_was_loaded_changes_nothing(self, pair, tmp_path):
        _, loaded = pair
        write_result(tmp_path / "again.h5", loaded)
        same(loaded, load_result(tmp_path / "again.h5"))

    def test_a_fit_to_what_was_loaded_is_the_same(self, sheared, tmp_path):
        write_result(tmp_path / "r.h5", sheared)
        loaded = load_result(tmp_path / "r.h5")
        again = hf.fit(
            loaded.data,
            gap=2e6,
            initial={"D0": 1200.0, "alpha": -0.4},
            fixed={"D_offset": 150.0, "gamma_dot_t_offset": 5e-5},
            bounds={"beta": (-1.0, 0.2)},
            per_angle_mode="individual",
            multi_start=False,
        )
        same(again.parameters, sheared.parameters)
        assert again.provenance.sha256 == sheared.provenance.sha256

    def test_it_can_be_pickled(self, static):
        same(static, pickle.loads(pickle.dumps(static)))


def test_matrices_are_read_when_asked_for(sheared, tmp_path):
    path = tmp_path / "result.h5"
    write_result(path, sheared)
    loaded = load_result(path)
    path.rename(tmp_path / "elsewhere.h5")
    same(loaded.parameters, sheared.parameters)
    with pytest.raises(InputError, match=r"result\.h5: the result is not there any more"):
        _ = loaded.data


class TestTheFileDescribesItself:
    def test_every_dataset_has_unit_and_name(self, pair, tmp_path):
        write_result(tmp_path / "r.h5", pair[0])
        seen = []

        def look(name, item):
            if isinstance(item, h5py.Dataset) and not name.startswith("state"):
                seen.append(name)
                assert isinstance(item.attrs["units"], str), name
                assert item.attrs["long_name"], name
                assert len(item.dims) == item.ndim
                for axis in item.dims if not item.is_scale else ():
                    assert len(axis) == 1, name

        with h5py.File(tmp_path / "r.h5") as file:
            file.visititems(look)
        assert {"parameters/value", "scaling/contrast", "curves/J", "c2/fit", "config"} <= set(seen)

    @pytest.mark.parametrize("group", GROUPS)
    def test_xarray_opens_every_group(self, pair, tmp_path, group):
        write_result(tmp_path / "r.h5", pair[0])
        with xr.open_dataset(tmp_path / "r.h5", group=group, engine="h5netcdf") as opened:
            opened.load()

    def test_xarray_finds_values_by_coordinates(self, sheared, tmp_path):
        path = tmp_path / "r.h5"
        write_result(path, sheared)

        def opened(group):
            return xr.open_dataset(path, group=group, engine="h5netcdf")

        with opened("parameters") as p:
            assert p.value.sel(parameter="phi0") == sheared.parameters["phi0"].value
            assert p.fixed.dtype == bool
            assert p.parameter[p.fixed].values.tolist() == ["D_offset", "gamma_dot_t_offset"]
            assert p.parameter[p.at_bound].values.tolist() == ["beta"]
            assert p.upper.sel(parameter="beta") == 0.2
            variance = p.covariance.sel(quantity="phi0", other_quantity="phi0")
            assert np.sqrt(variance) == pytest.approx(sheared.parameters["phi0"].stderr)
        with opened("scaling") as s:
            assert s.contrast.sel(phi=45) == sheared.contrast[1].value
        with opened("curves") as c:
            assert c.J.attrs["units"] == "angstrom2 s-1"
            np.testing.assert_array_equal(c.J, sheared.J(c.t)[0])
        with opened("c2") as c2:
            assert c2.data.dims == ("phi", "t1", "t2")
            residual = (c2.data - c2.fit).values
            assert np.isnan(residual[1][np.tril_indices(41)]).all()
            assert np.isfinite(residual).sum() == sheared.n_points
            # The fit is stored in single precision.
            assert 0.5 * np.nansum(residual**2) == pytest.approx(sheared.cost, rel=1e-4)

    def test_text_of_the_configuration_and_the_summary(self, sheared, tmp_path):
        write_result(tmp_path / "r.h5", sheared)
        with h5py.File(tmp_path / "r.h5") as file:
            assert yaml.safe_load(file["config"].asstr()[()]) == sheared.config
            assert json.loads(file["summary"].asstr()[()]) == sheared.to_json()
            assert file.attrs["source"] == sheared.data.source
            assert sheared.provenance.created in file.attrs["history"]

    def test_a_long_summary_is_kept(self, static, tmp_path):
        """An HDF5 attribute ends at 64 kB."""
        long = dataclasses.replace(static, config={"text": "x" * 200_000})
        write_result(tmp_path / "r.h5", long)
        assert load_result(tmp_path / "r.h5").config == long.config


def test_a_file_without_a_field_that_came_later_is_read(static, tmp_path):
    path = static.save(tmp_path) / "result.h5"
    with h5py.File(path, "r+") as file:
        del file["state/objective"].attrs["precision"]
    assert load_result(path).objective.precision == "double"


class TestWhatCannotBeRead:
    def test_matrices_that_stayed_on_the_disk(self, measure, tmp_path):
        m = measure((1500.0, -0.4, 300.0), n=41, phi=(0.0, 90.0))
        source = tmp_path / "data.npz"
        np.savez(source, c2=m.data.c2, q=m.q, phi=m.phi, dt=m.dt)
        data = hf.load(source, memory=60_000)
        hf.fit(data, "static", per_angle_mode="averaged", multi_start=False).save(tmp_path / "out")
        result = load_result(tmp_path / "out")
        assert result.parameters["D0"].value > 0
        assert (tmp_path / "out" / "result.h5").stat().st_size < source.stat().st_size + 2**17
        with pytest.raises(InputError, match="holds no matrices.*they are in .*data.npz"):
            _ = result.data

    def test_a_model_of_ones_own(self, measure, tmp_path):
        def rate(t, tau, p):
            return p[0] * t ** p[1] + p[2]

        m = measure((1500.0, -0.4, 300.0), n=31, phi=(0.0, 90.0))
        own = dataclasses.replace(STATIC, name="own", transport=rate)
        result = hf.fit(m.data, own, per_angle_mode="averaged", multi_start=False)
        result.save(tmp_path / "out")
        with pytest.raises(InputError, match="result.h5: fitted with the model 'own'"):
            load_result(tmp_path / "out")

    def test_nothing_there(self, tmp_path):
        with pytest.raises(InputError, match=r"no\.h5: there is no such file"):
            load_result(tmp_path / "no.h5")
        with pytest.raises(InputError, match=r"there is no such file; a result is result\.h5"):
            load_result(tmp_path)

    def test_something_else(self, tmp_path):
        (tmp_path / "a.h5").write_text("text")
        with pytest.raises(InputError, match=r"a\.h5: is no HDF5 file; a result is"):
            load_result(tmp_path / "a.h5")
        h5py.File(tmp_path / "b.h5", "w").close()
        with pytest.raises(InputError, match=r"b\.h5: is no result of homodyne_fit"):
            load_result(tmp_path / "b.h5")

    @pytest.mark.parametrize("lost", ["summary", "parameters/stderr", "state/space", "state/root"])
    def test_a_part_is_missing(self, static, tmp_path, lost):
        write_result(tmp_path / "r.h5", static)
        with h5py.File(tmp_path / "r.h5", "r+") as file:
            del file[lost]
        with pytest.raises(InputError, match=r"r\.h5: cannot be read as a result \(.*exist"):
            load_result(tmp_path / "r.h5")

    def test_a_later_format(self, static, tmp_path):
        write_result(tmp_path / "r.h5", static)
        with h5py.File(tmp_path / "r.h5", "r+") as file:
            file.attrs["format_version"] = 99
        with pytest.raises(InputError, match="has version 99 of the format.*update it"):
            load_result(tmp_path / "r.h5")


def test_matrices_of_several_chunks(static, tmp_path, monkeypatch):
    monkeypatch.setattr(result_file, "CHUNK_SIDE", 7)
    write_result(tmp_path / "r.h5", static)
    n = static.data.n_frames
    upper = np.triu(np.ones((n, n), dtype=bool), 1)
    with h5py.File(tmp_path / "r.h5") as file:
        assert file["c2/data"].chunks == (1, 7, 7)
        for k in range(static.data.n_angles):
            data = np.where(upper, static.data.c2[k], np.nan)
            np.testing.assert_array_equal(file["c2/data"][k], data)
            fit = np.where(upper, static.c2(k), np.nan)
            np.testing.assert_allclose(file["c2/fit"][k], fit, rtol=1e-6)


class TestTheFileAppearsWholeOrNotAtAll:
    @pytest.mark.parametrize(
        ("of", "step"), [(Analysis, "to_json"), (Analysis, "J"), (FittedMatrices, "c2")]
    )
    def test_when_writing_breaks_off(self, static, tmp_path, monkeypatch, of, step):
        def break_off(*_):
            raise RuntimeError("the disk is gone")

        path = tmp_path / "result.h5"
        path.write_text("earlier")
        monkeypatch.setattr(of, step, break_off)
        with pytest.raises(RuntimeError, match="gone"):
            write_result(path, static)
        assert path.read_text() == "earlier"
        assert list(tmp_path.iterdir()) == [path]

    def test_when_there_is_no_folder(self, static, tmp_path):
        with pytest.raises(InputError, match="cannot be written"):
            write_result(tmp_path / "no" / "result.h5", static)
