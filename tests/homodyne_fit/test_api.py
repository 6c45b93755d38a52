import dataclasses
import inspect
import multiprocessing
import pkgutil
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import yaml

import homodyne_fit as hf
from homodyne_fit.config import parse_config
from homodyne_fit.config.writing import settings_to_config
from homodyne_fit.data.formats.aps_u import write_aps_u
from homodyne_fit.fitting.fit import fit as fit_points
from homodyne_fit.fitting.options import (
    AntiDegeneracy,
    MultiStart,
    RegularizationSettings,
    SearchOptions,
)
from homodyne_fit.fitting.settings import FitSettings
from homodyne_fit.model.rates import LAMINAR_FLOW, STATIC

pytestmark = pytest.mark.numerics

STATIC_TRUTH = {"D0": 5000.0, "alpha": 0.1, "D_offset": 500.0}


@pytest.fixture(scope="module")
def data():
    return hf.simulate(STATIC_TRUTH, phi=(0, 90), n_frames=61, dt=0.3, noise=0.02, seed=3)


class TestThePackage:
    def test_importing_it_loads_nothing_heavy(self):
        code = (
            "import sys, homodyne_fit as hf\n"
            "assert {'fit', 'load', 'load_result'} <= set(dir(hf)), dir(hf)\n"
            "loaded = {name.partition('.')[0] for name in sys.modules}\n"
            "assert not loaded & {'jax', 'numpy', 'h5py', 'yaml', 'rich', 'pydantic'}, loaded\n"
        )
        subprocess.run([sys.executable, "-c", code], check=True, timeout=600)

    def test_no_module_bears_the_name_of_a_function(self):
        modules = {module.name for module in pkgutil.iter_modules(hf.__path__)}
        assert not modules & set(hf.__all__)

    @pytest.mark.parametrize("name", hf.__all__)
    def test_every_public_name_is_there_and_documented(self, name):
        assert inspect.getdoc(getattr(hf, name))

    def test_an_unknown_name_is_an_attribute_error(self):
        with pytest.raises(AttributeError, match="fitt"):
            _ = hf.fitt


class TestFit:
    def test_is_that_of_the_module(self, data):
        options = {
            "initial": {"D0": 4000.0},
            "fixed": {"D_offset": 500.0},
            "bounds": {"alpha": (-1.0, 1.0)},
        }
        found = hf.fit(data, "static", per_angle_mode="averaged", multi_start=False, **options)
        settings = FitSettings(
            model=STATIC,
            search=SearchOptions(
                anti_degeneracy=AntiDegeneracy(per_angle_mode="averaged"),
                multi_start=MultiStart(enable=False),
            ),
            **options,
        )
        expected = fit_points(data, settings)
        assert str(found.parameters) == str(expected.parameters)
        assert found.data is data
        (value,), (error,) = found.J(9.0)
        assert abs(value - (5000 * 9**0.1 + 500)) < 4 * error

    def test_a_path_will_do(self, data, tmp_path):
        path = tmp_path / "d.h5"
        full = np.concatenate([data.c2, data.c2 + 0.5])
        write_aps_u(path, full, [0.004, 0.0054], [0, 90], range(4), 0.3)
        told = hf.inspect(path)
        assert (told.n_frames, told.n_matrices, told.dt) == (61, 4, pytest.approx(0.3))
        assert repr(told) == (
            f"TwoTimeFile({str(path)!r}: 4 × 61 × 61 (APS-U); q = 0.004, 0.0054 Å⁻¹; φ = 0, 90°; "
            "dt = 0.3 s)"
        )
        found = hf.fit(path, "static", q=0.0054, multi_start=False)
        assert found.provenance.source == str(path)
        assert found.provenance.size == path.stat().st_size
        np.testing.assert_allclose(found.data.q, 0.0054)
        assert np.mean([e.value for e in found.offset]) == pytest.approx(1.5, abs=0.05)
        with pytest.raises(hf.InputError, match="no matrix is near q = 1 "):
            hf.fit(path, "static", q=1.0)
        with pytest.raises(hf.InputError, match=r"^q: .* 0\.0054 Å⁻¹; choose one of them$"):
            hf.load(path)
        with pytest.raises(
            hf.InputError, match=r"^dt: .*: 1 s is given, .*, or set dt_override to true"
        ):
            hf.load(path, q=0.004, dt=1.0)

    def test_processes_that_fork_are_refused(self, data):
        context = multiprocessing.get_context("fork")
        with (
            ProcessPoolExecutor(1, mp_context=context) as forks,
            pytest.raises(
                hf.InputError, match=r"mp_context=multiprocessing.get_context\('spawn'\)"
            ),
        ):
            hf.fit(data, "static", executor=forks)

    @pytest.mark.parametrize(
        "options",
        [
            {"fixed": {"D_offset": 1e9}},
            {"fixed": {"D0": 1e9}},
            {"bounds": {"D0": (1e12, 1e15)}},
        ],
    )
    def test_a_decay_within_no_time_is_no_fault(self, data, options):
        found = hf.fit(data, "static", **options)
        assert not found.success
        assert "no decay" in found.info.message

    def test_constant_data_are_no_fault(self):
        data = hf.TwoTimeData(np.ones((2, 10, 10)), [0, 90], 0.0054, 0.1)
        assert not hf.fit(data, "static").success

    @pytest.mark.parametrize(("shift", "said"), [(-1, "is it c2 - 1"), (1e6, "widen the bounds")])
    def test_a_baseline_out_of_bounds(self, data, shift, said):
        moved = dataclasses.replace(data, c2=data.c2 + np.float32(shift))
        with pytest.raises(hf.InputError, match=f"no offset from 0.5 to 1.5 .*{said}"):
            hf.fit(moved, "static")
        bounds = {"offset": (shift - 0.5 + 1, shift + 1.5)}
        assert hf.fit(moved, "static", bounds=bounds, multi_start=False).n_points == 2 * 61 * 30

    @pytest.mark.parametrize("name", ["static", "static_isotropic", "static_anisotropic"])
    def test_a_model_has_the_names_of_configurations(self, data, name):
        assert hf.fit(data, name, multi_start=False, max_nfev=1).model is STATIC
        assert FitSettings(model=name).model is STATIC

    def test_without_convergence_nothing_has_an_error(self, data):
        found = hf.fit(data, "static", multi_start=False, max_nfev=1)
        assert not found.success
        assert np.all(np.isinf(found.J([1.0, 2.0])[1]))
        assert np.isinf(found.mean_J()[1])

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"model": "laminar"}, "no model 'laminar'.*laminar_flow"),
            ({}, "gap: no value is given: laminar_flow needs the gap"),
            ({"model": "static", "per_angle_mode": "averged"}, "did you mean 'averaged'"),
            ({"model": "static", "fixed": {"alfa": 1}}, "(did you mean 'alpha'"),
            ({"model": "static", "q": 0.005}, "q and dt belong to a file"),
            (
                {"model": "static", "per_angle_mode": "fourier", "anti_degeneracy": {}},
                "give one of the two",
            ),
        ],
    )
    def test_a_mistake_is_one_error(self, data, options, message):
        with pytest.raises(hf.InputError, match=message.replace("(", r"\(")):
            hf.fit(data, **options)


class TestTheRecord:
    def test_selects_the_same_again(self, data, tmp_path):
        path = tmp_path / "d.h5"
        write_aps_u(
            path, np.concatenate([data.c2, data.c2 + 0.5]), [0.004, 0.0054], [0, 90], range(4), 0.3
        )
        chosen = hf.load(path, q=0.0054, frames=(3, 40), phi_ranges=[(80, 100)], mask_frames=[7])
        found = hf.fit(chosen, "static", multi_start=False)
        again = parse_config(yaml.safe_dump(found.config), tmp_path / "c.yaml").load_data()
        np.testing.assert_array_equal(again.c2, chosen.c2)
        assert (again.phi.tolist(), again.q.tolist()) == ([90], [0.0054])

    def test_of_data_that_were_changed_selects_nothing(self, data, tmp_path):
        path = tmp_path / "d.h5"
        write_aps_u(path, data.c2, [0.0054], [0, 90], range(2), 0.3)
        whole = hf.load(path)
        for changed in (whole.select_angles(np.array([0])), dataclasses.replace(whole, dt=0.4)):
            found = hf.fit(changed, "static", multi_start=False, max_nfev=1)
            assert "experimental_data" not in found.config

    def test_keeps_what_was_confirmed(self, data, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        write_aps_u(Path("d.h5"), data.c2, [0.0054], [0, 90], range(2), 0.3)
        options = {"gap": 5000.0, "units_confirmed": ["gap"], "multi_start": False, "max_nfev": 1}
        config = hf.fit(hf.load("d.h5"), **options).config
        again = parse_config(yaml.safe_dump(config), Path("elsewhere/c.yaml"))
        assert again.settings().gap == 5000
        assert again.load_data().n_angles == 2

    def test_of_an_array_has_what_the_file_does_not_say(self, data, tmp_path):
        np.save(tmp_path / "a.npy", data.c2)
        chosen = hf.load(
            tmp_path / "a.npy", q=0.4, dt=200, phi=[0, 90], units_confirmed=["q", "dt"]
        )
        found = hf.fit(chosen, "static", multi_start=False)
        again = parse_config(yaml.safe_dump(found.config), tmp_path / "c.yaml").load_data()
        assert (again.dt, again.phi.tolist(), again.q.tolist()) == (200, [0, 90], [0.4, 0.4])

    def test_of_a_simulation_names_no_file(self, data):
        config = hf.fit(data, "static", multi_start=False, max_nfev=1).config
        assert "experimental_data" not in config


class TestSimulate:
    def test_is_the_formula(self, numpy_c2):
        params = (4000.0, 0.1, 500.0, 3e-4, 0.2, 0.0, 4.0)
        names = dict(zip(LAMINAR_FLOW.parameters, params, strict=True))
        phi, contrast, offset = (0.0, 50.0), (0.2, 0.3), (1.0, 1.1)
        data = hf.simulate(
            names, phi=phi, n_frames=21, contrast=contrast, offset=offset, noise=0, dt=0.2
        )
        q = np.full(2, 0.0054)
        expected = numpy_c2(params, contrast, offset, q=q, phi=phi, gap=2e6, dt=0.2, n=21)
        np.testing.assert_allclose(data.c2, expected, rtol=1e-6)
        assert (data.dt, data.phi.tolist(), data.q.tolist()) == (0.2, list(phi), q.tolist())

    def test_noise_has_its_size_and_seed(self):
        clean, noisy, again, other = (
            hf.simulate(STATIC_TRUTH, n_frames=60, noise=noise, seed=seed).c2
            for noise, seed in ((0, 0), (0.1, 1), (0.1, 1), (0.1, 2))
        )
        upper = np.triu_indices(60, 1)
        # 10,620 points know a standard deviation to 0.7 %.
        assert (noisy - clean)[:, *upper].std() == pytest.approx(0.1, rel=0.03)
        np.testing.assert_array_equal(noisy, again)
        assert np.any(noisy != other)


@pytest.mark.parametrize(
    "settings",
    [
        FitSettings(model=STATIC),
        FitSettings(
            gap=1e6,
            initial={"D0": 5e3},
            fixed={"beta": 0.25},
            bounds={"D0": (1e3, 1e4), "contrast": (0.1, 0.5)},
            shear="homodyne",
            search=SearchOptions(
                anti_degeneracy=AntiDegeneracy(
                    per_angle_mode="hierarchical", regularization=RegularizationSettings(mode="cv")
                ),
                multi_start=MultiStart(n_starts=7),
                tolerance=1e-3,
                max_nfev=12,
                precision="single",
                threads=2,
            ),
        ),
    ],
)
def test_settings_are_recorded_as_a_configuration_that_makes_them(settings, data):
    text = yaml.safe_dump(settings_to_config(settings, data))
    again = parse_config(text, Path("c.yaml")).settings()
    for name in ("model", "gap", "initial", "fixed", "bounds", "shear"):
        assert getattr(again, name) == getattr(settings, name)
    assert again.search.model_dump() == settings.search.model_dump()
