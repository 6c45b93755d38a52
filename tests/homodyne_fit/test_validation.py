"""What is wrong with the arguments of the functions for Python is said as for a configuration."""

import inspect
import re
from fractions import Fraction

import numpy as np
import pytest

import homodyne_fit as hf
from homodyne_fit.validation import checked_arguments

SIZE = "memory: a size is needed, as 2GB, 512MiB or a number of bytes (got {})"


class TestTypes:
    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ({"gap": "2mm"}, "gap: a number is needed (got '2mm'; write it without the unit)"),
            ({"gap": "2,000,000"}, "gap: a number is needed (got '2,000,000'; write 2000000)"),
            ({"gap": "wide"}, "gap: a number is needed (got 'wide')"),
            ({"gap": b"2mm"}, "gap: a number is needed (got b'2mm')"),
            ({"gap": np.True_}, "gap: a number is needed (got True)"),
            ({"gap": np.complex128(2e6 + 1j)}, "gap: a number is needed (got (2000000+1j))"),
            ({"gap": np.array(2e6j)}, "gap: a number is needed (got 2000000j)"),
            ({"gap": np.array(True)}, "gap: a number is needed (got True)"),
            ({"gap": np.ma.masked}, "gap: a number is needed (got a masked one)"),
            ({"tolerance": np.nan}, "tolerance: a finite number is needed (got nan)"),
            ({"tolerance": -0.01}, "tolerance: must be greater than 0 (got -0.01)"),
            ({"max_nfev": 2.5}, "max_nfev: a whole number is needed (got 2.5)"),
            ({"max_nfev": 0}, "max_nfev: must be greater than 0 (got 0)"),
            ({"memory": np.complex128(1e9)}, SIZE.format("np.complex128(1000000000+0j)")),
            ({"memory": np.True_}, SIZE.format("np.True_")),
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
            (
                {"multi_start": 3},
                "multi_start: True, False, or a mapping of its settings is needed",
            ),
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
            ({"model": ["static"]}, "model: there is no model ['static'] (did you mean"),
        ],
    )
    def test_of_a_fit(self, small, options, said, complaint):
        (line,) = complaint(hf.fit, small, **{"gap": 2e6, **options})
        assert line.startswith(f"fit: {said}")

    def test_of_the_data(self, small, complaint):
        (line,) = complaint(hf.fit, small.c2, gap=2e6)
        assert line.startswith("fit: data: data of hf.load, or the path of a file, are needed")
        assert complaint(hf.fit) == ["fit: data: no value is given"]
        (line,) = complaint(hf.fit, small, "static", 2e6)
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
            ({"phi": np.array(0.0)}, ["phi: a list is needed (got array(0.))"]),
            ({"mask_frames": 3}, ["mask_frames: a list is needed (got 3)"]),
            ({"phi": {90, 0}}, [f"phi: a list is needed (got { ({90, 0})!r})"]),
            ({"mask_frames": np.ones(1, bool)}, ["mask_frames.0: a number is needed (got True)"]),
            (
                {"mask_frames": np.ma.array([3, 4], mask=[0, 1])},
                ["mask_frames.1: a number is needed (got a masked one)"],
            ),
            (
                {"phi": np.array([0, 90j])},
                [f"phi.{i}: a number is needed (got {90 * i:g}j)" for i in (0, 1)],
            ),
            ({"memory": "2 GB!"}, [SIZE.format("'2 GB!'")]),
            ({"memory": "1e999"}, [SIZE.format("'1e999'")]),
            ({"scratch": ""}, ["scratch: a path is needed (got '')"]),
            ({"dt": "1 s"}, ["dt: a number is needed (got '1 s'; write it without the unit)"]),
            (
                {"q": 0, "dt": np.inf},
                ["q: must be greater than 0 (got 0)", "dt: a finite number is needed (got inf)"],
            ),
            ({"units_confirmed": "q"}, ["units_confirmed: a list is needed (got 'q')"]),
        ],
    )
    def test_of_a_file(self, small_array, options, said, complaint):
        lines = complaint(hf.load, small_array, **options)
        assert lines == [f"load: {line}" for line in said]

    def test_of_a_path(self, complaint):
        for function in (hf.load, hf.inspect, hf.load_result):
            name = function.__name__
            assert complaint(function, 5) == [f"{name}: path: a path is needed (got 5)"]

    def test_of_a_simulation(self, complaint):
        assert complaint(hf.simulate, {"D0": "x"}, phi=3, contrast="high", n_frames=0) == [
            "simulate: parameters.D0: a number is needed (got 'x')",
            "simulate: phi: a list is needed (got 3)",
            "simulate: n_frames: must be greater than 0 (got 0)",
            "simulate: contrast.0: a number is needed (got 'high')",
        ]

    def test_a_long_value_is_shortened(self, small, complaint):
        for text in ("mm " * 200, "m" * 200):
            (line,) = complaint(hf.fit, small, gap=text)
            assert line.startswith("fit: gap: a number is needed (got 'mm")
            assert len(line) < 150

    def test_of_data_made_of_arrays(self, small, complaint):
        good = {"c2": small.c2, "phi": small.phi, "q": 0.0054, "dt": 0.1}
        assert hf.TwoTimeData(**good).q.tolist() == [0.0054] * 3
        for wrong, said in (
            ({"dt": "fast"}, "dt must be one number, got 'fast'"),
            ({"dt": [1.0, 2.0]}, "dt must be one number, got [1.0, 2.0]"),
            ({"phi": ["a", "b", "c"]}, "phi must be real numbers, got ['a', 'b', 'c']"),
            ({"q": "x"}, "q must be real numbers, got 'x'"),
        ):
            assert complaint(hf.TwoTimeData, **{**good, **wrong}) == [f"arrays: {said}"]

    def test_of_settings(self, complaint):
        given = {
            "gap": np.nan,
            "initial": {"D0": 1j},
            "bounds": {"alpha": (0, np.inf), "beta": 3},
            "shear": "homodin",
            "search": {
                "tolerance": "tight",
                "max_nfev": 2.5,
                "precision": [],
                "multi_start": 3,
            },
        }
        assert complaint(hf.FitSettings, **given) == [
            "gap: a finite number is needed (got nan)",
            "initial.D0: a number is needed (got 1j)",
            "bounds.alpha.1: a finite number is needed (got inf)",
            "bounds.beta: a pair, (from, to), is needed (got 3)",
            "shear: must be 'documented' or 'homodyne' (got 'homodin'; did you mean 'homodyne'?)",
            "search.tolerance: a number is needed (got 'tight')",
            "search.max_nfev: a whole number is needed (got 2.5)",
            "search.precision: must be 'double' or 'single'",
            "search.multi_start: a mapping of keys is needed (got 3)",
        ]
        (line,) = complaint(hf.FitSettings, "laminar", gap=2e6)
        assert line.startswith("model: there is no model 'laminar'")

    def test_of_one_parameter_by_two_names(self, complaint):
        (line,) = complaint(
            hf.FitSettings, gap=2e6, initial={"gamma_dot_0": 1e-3, "gamma_dot_t0": 2e-3}
        )
        assert line == "initial: a parameter is given by two names: gamma_dot_0, gamma_dot_t0"

    def test_of_frames_that_no_file_has(self, small_array, complaint):
        (line,) = complaint(
            hf.load, small_array, q=0.0054, dt=1, phi=[0, 45, 90], mask_frames=[10**30]
        )
        assert line.startswith("mask_frames: ")
        assert ": the frames 1e+30 are listed" in line


class TestWhatIsConverted:
    @pytest.mark.parametrize("size", ["1e9", "1GB", " 1 gb ", "1000000000", 10**9, 1e9])
    def test_sizes(self, small, size):
        found = hf.fit(small, "static", memory=size, multi_start=False, max_nfev=1)
        assert found.config["optimization"]["nlsq"]["memory"] == 10**9

    def test_a_home_folder(self, small, tmp_path, monkeypatch):
        monkeypatch.setenv("HOME", str(tmp_path))
        folder = hf.fit(small, "static", multi_start=False, max_nfev=1).save("~/out")
        assert folder == tmp_path / "out"
        assert hf.load_result("~/out").n_points == 3 * 24 * 23 // 2

    def test_signatures_show_plain_types(self):
        for function in (hf.load, hf.fit, hf.simulate, hf.inspect, hf.load_result):
            shown = str(inspect.signature(function))
            assert not re.search("Positive|Number|Whole|Count|Listed|Size|PathLike'", shown)
        assert "gap: Optional[float]" in str(inspect.signature(hf.fit))

    def test_numbers_of_numpy_and_text(self, small, small_array, tmp_path):
        options = {"phi": small.phi, "dt": np.float32(0.5), "q": "0.0054"}
        loaded = hf.load(small_array, frames=np.array([1, 20]), memory="1GB", **options)
        assert (loaded.dt, loaded.q.tolist(), loaded.n_frames) == (0.5, [0.0054] * 3, 20)
        found = hf.fit(
            small,
            "static",
            initial={"D0": np.float64(1000)},
            bounds={"alpha": np.array([-1, 1])},
            anti_degeneracy={"per_angle_mode": "averaged"},
            multi_start={"n_starts": np.int64(4)},
            memory="1GB",
        )
        found.save(tmp_path / "out")
        nlsq = hf.load_result(tmp_path / "out").config["optimization"]["nlsq"]
        assert nlsq["memory"] == 10**9
        assert nlsq["anti_degeneracy"]["per_angle_mode"] == "averaged"
        assert nlsq["multi_start"]["n_starts"] == 4

    def test_errors_of_the_function_itself_are_left_alone(self):
        @checked_arguments
        def reciprocal(x: float) -> Fraction:
            return Fraction(1, int(x))

        assert reciprocal("2") == Fraction(1, 2)
        with pytest.raises(ZeroDivisionError):
            reciprocal(0)
