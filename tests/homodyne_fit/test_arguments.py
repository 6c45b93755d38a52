"""What is wrong with the arguments of the functions for Python is said as for a configuration."""

from fractions import Fraction

import numpy as np
import pytest

import homodyne_fit as hf
from homodyne_fit.validation import checked_arguments

FLOW = {"D0": 2e4, "alpha": -0.2, "D_offset": 0.0, "gamma_dot_t0": 3e-4, "beta": 0.2}
FLOW |= {"gamma_dot_t_offset": 0.0, "phi0": 3.0}


@pytest.fixture(scope="module")
def data():
    return hf.simulate(FLOW, phi=(0, 45, 90), n_frames=24, noise=0.02)


@pytest.fixture(scope="module")
def array(data, tmp_path_factory):
    path = tmp_path_factory.mktemp("arguments") / "array.npy"
    np.save(path, data.c2)
    return path


@pytest.fixture(scope="module")
def result(data):
    return hf.fit(data, "static", multi_start=False)


def complaint(function, *args, **kwargs):
    """The lines of the error that a call raises."""
    with pytest.raises(hf.InputError) as caught:
        function(*args, **kwargs)
    return str(caught.value).splitlines()


class TestTypes:
    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ({"gap": "2mm"}, "gap: a number is needed (got '2mm'; write it without the unit)"),
            ({"gap": "2,000,000"}, "gap: a number is needed (got '2,000,000'; write 2000000)"),
            ({"gap": "wide"}, "gap: a number is needed (got 'wide')"),
            ({"gap": -1}, "gap: must be greater than 0 (got -1)"),
            ({"gap": np.array([1e6, 2e6])}, "gap: a number is needed (got array(["),
            ({"gaps": 2e6}, "there is no argument 'gaps' (did you mean 'gap'?)"),
            ({"zeal": 1}, "there is no argument 'zeal'; there are data, model, gap, q, dt, "),
            ({"initial": {"D0": "x"}}, "initial.D0: a number is needed (got 'x')"),
            ({"initial": 5}, "initial: a mapping, 'name: value', is needed (got 5)"),
            ({"fixed": {"beta": True}}, "fixed.beta: a number is needed (got True)"),
            ({"fixed": {"beta": np.nan}}, "fixed.beta: a finite number is needed (got nan)"),
            ({"bounds": {"phi0": 20}}, "bounds.phi0: a pair, (from, to), is needed (got 20)"),
            ({"bounds": {"phi0": (1,)}}, "bounds.phi0: a pair, (from, to), is needed"),
            (
                {"bounds": {"phi0": (1, 2, 3)}},
                "bounds.phi0: a pair, (from, to), is needed (got (1, 2, 3))",
            ),
            ({"bounds": {"phi0": (1, "b")}}, "bounds.phi0.1: a number is needed (got 'b')"),
            ({"multi_start": 3}, "multi_start: a mapping of keys is needed (got 3)"),
            (
                {"multi_start": {"n_strats": 3}},
                "multi_start.n_strats: there is no such key (got 3)",
            ),
            (
                {"anti_degeneracy": "all"},
                "anti_degeneracy: a mapping of keys is needed (got 'all')",
            ),
            ({"shear": "homodin"}, "shear: must be 'documented' or 'homodyne' (got 'homodin'; did"),
            ({"threads": 1.5}, "threads: a whole number is needed (got 1.5)"),
            ({"memory": "2 loaves"}, "memory: a size is needed, as 2GB, 512MiB or a number of"),
            ({"executor": 3}, "executor: a value of type Executor is needed (got 3)"),
            ({"progress": 3}, "progress: a function is needed (got 3)"),
            ({"model": "laminar"}, "model: there is no model 'laminar' (did you mean 'laminar_"),
            ({"model": 7}, "model: there is no model 7; there are: "),
        ],
    )
    def test_of_a_fit(self, data, options, said):
        (line,) = complaint(hf.fit, data, **{"gap": 2e6, **options})
        assert line.startswith(f"fit: {said}")

    def test_of_the_data(self, data):
        (line,) = complaint(hf.fit, data.c2, gap=2e6)
        assert line.startswith("fit: data: data of hf.load, or the path of a file, are needed")
        assert complaint(hf.fit) == ["fit: data: no value is given"]
        (line,) = complaint(hf.fit, data, "static", 2e6)
        assert line == "fit: too many arguments without a name; write name=value"

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ({"frames": 100}, ["frames: a pair, (from, to), is needed (got 100)"]),
            ({"frames": (1.5, 3)}, ["frames.0: a whole number is needed (got 1.5)"]),
            (
                {"phi_ranges": (40, 50)},
                [
                    f"phi_ranges.{i}: a pair, (from, to), is needed (got {40 + 10 * i})"
                    for i in (0, 1)
                ],
            ),
            (
                {"phi_ranges": [(np.nan, 10)]},
                ["phi_ranges.0.0: a finite number is needed (got nan)"],
            ),
            ({"phi": "0,45"}, ["phi: a list is needed (got '0,45')"]),
            ({"mask_frames": 3}, ["mask_frames: a list is needed (got 3)"]),
            ({"dt": "1 s"}, ["dt: a number is needed (got '1 s'; write it without the unit)"]),
            (
                {"q": 0, "dt": np.inf},
                ["q: must be greater than 0 (got 0)", "dt: a finite number is needed (got inf)"],
            ),
            ({"units_confirmed": "q"}, ["units_confirmed: a list is needed (got 'q')"]),
        ],
    )
    def test_of_a_file(self, array, options, said):
        lines = complaint(hf.load, array, **options)
        assert lines == [f"load: {line}" for line in said]

    def test_of_a_path(self, tmp_path):
        for function in (hf.load, hf.inspect, hf.load_result):
            name = function.__name__
            assert complaint(function, 5) == [f"{name}: path: the path of a file is needed (got 5)"]

    def test_of_a_simulation(self):
        assert complaint(hf.simulate, {"D0": "x"}, phi=3, contrast="high", n_frames=0) == [
            "simulate: parameters.D0: a number is needed (got 'x')",
            "simulate: phi: a list is needed (got 3)",
            "simulate: n_frames: must be greater than 0 (got 0)",
            "simulate: contrast.0: a number is needed (got 'high')",
        ]

    def test_a_long_value_is_shortened(self, data):
        (line,) = complaint(hf.fit, data, gap="mm " * 200)
        assert len(line) < 150


class TestWhatIsConverted:
    def test_numbers_of_numpy_and_text(self, data, array):
        options = {"phi": data.phi, "dt": np.float32(0.5), "q": "0.0054"}
        loaded = hf.load(array, frames=np.array([1, 20]), memory="1GB", **options)
        assert (loaded.dt, loaded.q.tolist(), loaded.n_frames) == (0.5, [0.0054] * 3, 20)
        found = hf.fit(
            data,
            "static",
            initial={"D0": np.float64(1000)},
            bounds={"alpha": np.array([-1, 1])},
            anti_degeneracy={"per_angle_mode": "averaged"},
            multi_start={"n_starts": np.int64(4)},
        )
        nlsq = found.config["optimization"]["nlsq"]
        assert nlsq["anti_degeneracy"]["per_angle_mode"] == "averaged"
        assert nlsq["multi_start"]["n_starts"] == 4

    def test_errors_of_the_function_itself_are_left_alone(self):
        @checked_arguments
        def reciprocal(x: float) -> Fraction:
            return Fraction(1, int(x))

        assert reciprocal("2") == Fraction(1, 2)
        with pytest.raises(ZeroDivisionError):
            reciprocal(0)


class TestUnits:
    @pytest.mark.parametrize(
        ("options", "name", "question"),
        [
            ({"gap": 0.2}, "gap", "0.2 mm is 2e+06 Å; if it is in Å"),
            (
                {"gap": 2e6, "bounds": {"phi0": (-0.785, 0.785)}},
                "phi",
                "degrees are needed: -45, 45",
            ),
            ({"gap": 2e6, "fixed": {"phi0": 1.571}}, "phi", "degrees are needed: 90"),
        ],
    )
    def test_of_a_fit(self, data, options, name, question):
        (line,) = complaint(hf.fit, data, **options)
        assert question in line
        assert line.endswith(f"give units_confirmed=['{name}']")
        hf.fit(data, **options, units_confirmed=[name], multi_start=False, max_nfev=1)

    def test_the_static_model_has_no_such_quantities(self, data):
        hf.fit(data, "static", gap=0.2, multi_start=False, max_nfev=1)

    def test_all_of_a_file_at_once(self, array):
        options = {"q": 5.4, "dt": 1000, "phi": [0, 0.7854, 1.5708]}
        lines = complaint(hf.load, array, **options)
        for line, name in zip(lines, ("q", "dt", "phi"), strict=True):
            assert line.startswith(str(array))
            assert line.endswith(f"give units_confirmed=['{name}']")
        data = hf.load(array, **options, units_confirmed=["q", "dt", "phi"])
        assert (data.q[0], data.dt, data.phi[1]) == (5.4, 1000, 0.7854)

    def test_a_fit_of_a_path_asks_them_too(self, array):
        options = {"q": 5.4, "dt": 1000, "units_confirmed": ["q"]}
        lines = complaint(hf.fit, array, "static", **options)
        assert lines[0].endswith("give units_confirmed=['dt']")
        assert "does not give the angles of its 3 matrices; set phi" in lines[1]

    def test_angles_that_a_file_has_in_radians(self, tmp_path, data):
        np.savez(tmp_path / "a.npz", c2=data.c2, phi=[0, 0.7854, 1.5708], dt=1.0, q=[0.0054] * 3)
        (line,) = complaint(hf.load, tmp_path / "a.npz")
        assert "φ of the file: 0, 0.7854, 1.5708 looks like radians" in line
        assert hf.load(tmp_path / "a.npz", units_confirmed=["phi"]).n_angles == 3


class TestResults:
    @pytest.mark.parametrize(
        ("times", "said"),
        [
            ([1.0, -1.0], "times are seconds from the first frame on, none negative; got -1"),
            (np.nan, "times are seconds from the first frame on, none negative; got nan"),
            ("noon", "times are numbers, in seconds, not 'noon'"),
        ],
    )
    def test_times(self, result, times, said):
        assert complaint(result.J, times) == [said]
        assert complaint(result.plot_rates, times) == [said]

    @pytest.mark.parametrize("angle", [3, -4, "0", 1.0])
    def test_angles(self, result, angle):
        for function in (result.c2, result.decay, result.plot_two_time, result.plot_lag_cuts):
            said = f"there is no angle {angle!r}; their indices are 0 to 2"
            assert complaint(function, angle) == [said]
        np.testing.assert_array_equal(result.c2(-1), result.c2(2))

    def test_a_folder(self, result):
        assert complaint(result.save, 5) == ["save: folder: the path of a file is needed (got 5)"]
