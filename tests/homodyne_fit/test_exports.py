import csv
import dataclasses
import math

import numpy as np
import pytest

from homodyne_fit.fitting.goodness import Goodness
from homodyne_fit.results.exports import write_angles, write_csv, write_homodyne

# As homodyne 2.23 writes them.
ARRAYS = {
    "phi_angles": (3,),
    "c2_exp": (3, 41, 41),
    "c2_theoretical_raw": (3, 41, 41),
    "c2_theoretical_scaled": (3, 41, 41),
    "c2_solver_scaled": (3, 41, 41),
    "per_angle_scaling": (3, 2),
    "per_angle_scaling_solver": (3, 2),
    "residuals": (3, 41, 41),
    "residuals_normalized": (3, 41, 41),
    "t1": (41,),
    "t2": (41,),
    "q": (1,),
}


class TestCsv:
    @pytest.fixture(scope="class")
    @classmethod
    def rows(cls, sheared, tmp_path_factory):
        path = tmp_path_factory.mktemp("csv") / "parameters.csv"
        write_csv(path, sheared)
        with path.open(encoding="utf-8", newline="") as file:
            return {row["name"]: row for row in csv.DictReader(file)}

    def test_a_row_for_each_quantity_with_all_digits(self, rows, sheared):
        assert list(rows) == list(sheared.names)
        estimates = [*sheared.parameters.values(), *sheared.contrast, *sheared.offset]
        for row, estimate in zip(rows.values(), estimates, strict=True):
            assert float(row["value"]) == estimate.value
            assert row["unit"] == estimate.unit
            if math.isnan(estimate.stderr):
                assert row["stderr"] == ""
            else:
                assert float(row["stderr"]) == estimate.stderr

    def test_angles_and_states(self, rows):
        assert (rows["D0"]["phi"], rows["contrast[1]"]["phi"]) == ("", "45.0")
        assert (rows["D_offset"]["fixed"], rows["D_offset"]["stderr"]) == ("true", "")
        assert (rows["beta"]["at_bound"], rows["D0"]["at_bound"]) == ("true", "false")


def test_a_row_for_each_angle(sheared, tmp_path):
    path = tmp_path / "angles.csv"
    write_angles(path, sheared)
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for k, row in enumerate(rows):
        residual = np.triu(np.asarray(sheared.data.c2[k]) - sheared.c2(k), 1)
        known = np.isfinite(residual) & np.triu(np.ones_like(residual, bool), 1)
        assert float(row["phi"]) == sheared.data.phi[k]
        assert float(row["contrast"]) == sheared.contrast[k].value
        assert float(row["offset_stderr"]) == sheared.offset[k].stderr
        assert int(row["n_points"]) == known.sum()
        assert float(row["rms"]) == pytest.approx(np.sqrt(np.mean(residual[known] ** 2)), rel=1e-3)
        # Noise is all that the simulation has.
        assert float(row["reduced_chi2"]) == pytest.approx(1.0, abs=0.3)
    assert len(rows) == 3
    write_angles(path, dataclasses.replace(sheared, goodness=Goodness.unknown(3)))
    assert path.read_text("utf-8").splitlines()[1].endswith(",,,")


class TestHomodyne:
    @pytest.fixture(scope="class")
    @classmethod
    def arrays(cls, sheared, tmp_path_factory):
        path = tmp_path_factory.mktemp("npz") / "fitted_data.npz"
        write_homodyne(path, sheared)
        with np.load(path) as file:
            return dict(file)

    def test_has_its_arrays_in_their_shapes(self, arrays):
        assert {name: array.shape for name, array in arrays.items()} == ARRAYS

    def test_the_fit_is_the_model(self, arrays, sheared, measure, numpy_c2):
        m = measure(n=41)
        scaling = [[e.value for e in each] for each in (sheared.contrast, sheared.offset)]
        geometry = {"q": m.q, "phi": m.phi, "gap": m.gap, "dt": m.dt, "n": m.n}
        fit = numpy_c2(sheared.values, *scaling, **geometry)
        np.testing.assert_allclose(arrays["c2_theoretical_scaled"], fit, rtol=1e-9)
        np.testing.assert_array_equal(arrays["c2_solver_scaled"], arrays["c2_theoretical_scaled"])
        np.testing.assert_array_equal(arrays["per_angle_scaling_solver"], np.transpose(scaling))

    def test_scaling_the_raw_matrices_gives_the_fit(self, arrays):
        factor, summand = arrays["per_angle_scaling"].T[:, :, None, None]
        scaled = factor * arrays["c2_theoretical_raw"] + summand
        np.testing.assert_allclose(scaled, arrays["c2_theoretical_scaled"], rtol=1e-12)
        diagonal = np.diagonal(arrays["c2_theoretical_raw"], axis1=1, axis2=2)
        np.testing.assert_array_equal(diagonal, 2.0)

    def test_data_are_symmetric_and_missing_where_they_are(self, arrays, sheared):
        c2 = arrays["c2_exp"]
        np.testing.assert_array_equal(c2, np.swapaxes(c2, 1, 2))
        assert np.isfinite(c2).sum() == 2 * sheared.n_points
        above = np.triu_indices(41, 1)
        np.testing.assert_array_equal(c2[1][above], sheared.data.c2[1][above])
        residuals = c2 - arrays["c2_theoretical_scaled"]
        np.testing.assert_array_equal(arrays["residuals"], residuals)
        np.testing.assert_allclose(arrays["residuals_normalized"], residuals / (0.05 * c2))

    def test_times_and_q(self, arrays):
        np.testing.assert_allclose(arrays["t1"], 0.1 * np.arange(41))
        np.testing.assert_array_equal(arrays["t1"], arrays["t2"])
        assert arrays["q"] == [0.0054]
